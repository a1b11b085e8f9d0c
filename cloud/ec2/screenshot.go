package ec2

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

const (
	// maxSide bounds a display's width and height, in pixels: a node's picture is from outside.
	maxSide = 4096
	quality = 90 // of the JPEG, where text stays readable
)

// GetConsoleScreenshot answers with what an instance's display shows, as a JPEG in base64 like EC2's.
func (s *Service) GetConsoleScreenshot(ctx context.Context,
	in *ec2model.GetConsoleScreenshotInput) (*ec2model.GetConsoleScreenshotOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	id := model.Val(in.InstanceId)
	if _, err := s.selectInstances(caller, []string{id}); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	shot, err := s.Screenshot(ctx, id)
	if err != nil {
		return nil, screenError(id, err)
	}
	data, err := toJPEG(shot)
	if err != nil {
		return nil, fmt.Errorf("screenshot of %s: %w", id, err)
	}
	return &ec2model.GetConsoleScreenshotOutput{
		InstanceId: model.Ptr(id), ImageData: model.Ptr(base64.StdEncoding.EncodeToString(data)),
	}, nil
}

// screenError is the API's word for why there is no picture.
func screenError(id string, err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return model.Errorf("InvalidInstanceID.NotFound", http.StatusBadRequest, "The instance ID '%s' does not exist", id)
	case errors.Is(err, ErrNoDisplay):
		return model.Errorf("UnsupportedOperation", http.StatusBadRequest, "The instance '%s' cannot be looked at: %v",
			id, ErrNoDisplay)
	case errors.Is(err, ErrNotRunning):
		return model.Errorf("IncorrectInstanceState", http.StatusBadRequest,
			"The instance '%s' is not in a state in which it can be looked at: %v", id, err)
	default:
		return model.Errorf("Unavailable", http.StatusServiceUnavailable, "There is no picture at the moment: %v", err)
	}
}

// toJPEG makes a JPEG of a PNG that a node sent.
func toJPEG(shot []byte) ([]byte, error) {
	size, err := png.DecodeConfig(bytes.NewReader(shot))
	if err == nil && (size.Width > maxSide || size.Height > maxSide) {
		err = fmt.Errorf("it has %d by %d pixels, at most %d by %d are taken", size.Width, size.Height, maxSide, maxSide)
	}
	var decoded image.Image
	if err == nil {
		decoded, err = png.Decode(bytes.NewReader(shot))
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's picture: %w", err)
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, decoded, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("write the picture: %w", err)
	}
	return out.Bytes(), nil
}
