package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

func TestRegistration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	if r, err := local.Registered(dir, "lbvm"); err != nil || r.DeliveryProfile != 2 {
		t.Errorf("nobody registered it: %+v, %v; want profile 2", r, err)
	}
	if err := local.Register(dir, "lbvm", local.Registration{DeliveryProfile: 1}); err != nil {
		t.Fatal(err)
	}
	if r, err := local.Registered(dir, "lbvm"); err != nil || r.DeliveryProfile != 1 {
		t.Errorf("registered as profile 1: %+v, %v", r, err)
	}
	if r, err := local.Registered(dir, "web"); err != nil || r.DeliveryProfile != 2 {
		t.Errorf("another image: %+v, %v; want profile 2", r, err)
	}
	for _, bad := range []struct {
		image   string
		profile keydelivery.Profile
	}{{"lbvm", 0}, {"lbvm", 3}, {"../lbvm", 1}, {"", 1}} {
		err := local.Register(dir, bad.image, local.Registration{DeliveryProfile: bad.profile})
		if !errors.Is(err, local.ErrRegistration) {
			t.Errorf("%+v: %v, want ErrRegistration", bad, err)
		}
	}
	for _, text := range []string{"", "{}", `{"deliveryProfile":7}`, "null"} {
		if err := os.WriteFile(filepath.Join(dir, "web.registration.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := local.Registered(dir, "web")
		if text == "{}" || text == "null" {
			if err != nil || r.DeliveryProfile != 2 {
				t.Errorf("%s: %+v, %v; want profile 2", text, r, err)
			}
		} else if !errors.Is(err, local.ErrRegistration) {
			t.Errorf("%q: %v, want ErrRegistration", text, err)
		}
	}
}
