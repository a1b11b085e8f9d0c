package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
)

// ErrRegistration means that an image cannot be registered so, or that what is registered cannot be read.
var ErrRegistration = errors.New("bad image registration")

// Registration is what an operator says of an image. It lies beside the image's folder, so that building the image
// anew leaves it.
type Registration struct {
	// DeliveryProfile is the profile of the key-delivery protocol that the image's guests speak, 1 or 2.
	DeliveryProfile keydelivery.Profile `json:"deliveryProfile"`
}

func (r Registration) validate() error {
	if r.DeliveryProfile != keydelivery.Profile1 && r.DeliveryProfile != keydelivery.Profile2 {
		return fmt.Errorf("%w: the delivery profile must be 1 or 2, got %d", ErrRegistration, r.DeliveryProfile)
	}
	return nil
}

func registrationFile(dir, image string) string {
	return filepath.Join(dir, image+".registration.json")
}

// Register registers an image of the folder. It counts from the next start of a cloud on.
func Register(dir, image string, r Registration) error {
	if !slices.Contains(builder.Flavours(), builder.Flavour(image)) {
		return fmt.Errorf("%w: there is no image %q; the images are %v", ErrRegistration, image, builder.Flavours())
	}
	if err := r.validate(); err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("register image %s: %w", image, err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("register image %s: %w", image, err)
	}
	if err := os.WriteFile(registrationFile(dir, image), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("register image %s: %w", image, err)
	}
	return nil
}

// Registered returns how an image is registered; as profile 2 when nobody has.
func Registered(dir, image string) (Registration, error) {
	r := Registration{DeliveryProfile: keydelivery.Profile2}
	path := registrationFile(dir, image)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("look up registration of image %s: %w", image, err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%w: %s: %w", ErrRegistration, path, err)
	}
	if err := r.validate(); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// originalImages names the images of a folder that are registered as delivery profile 1.
func originalImages(dir string) ([]string, error) {
	var names []string
	for _, flavour := range builder.Flavours() {
		r, err := Registered(dir, string(flavour))
		if err != nil {
			return nil, err
		}
		if r.DeliveryProfile == keydelivery.Profile1 {
			names = append(names, string(flavour))
		}
	}
	return names, nil
}
