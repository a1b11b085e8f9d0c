package cloud

import (
	"errors"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// refusal marks an error as the operator's mistake when it is one of mistakes; any other is the cloud's and stays as it
// is.
func refusal(err error, mistakes ...error) error {
	for _, mistake := range mistakes {
		if errors.Is(err, mistake) {
			return &operator.Refusal{Message: err.Error()}
		}
	}
	return err
}
