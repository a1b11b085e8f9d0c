package template

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/node/console"
	"github.com/cloudtwin/cloudtwin/node/floppy"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// RehearsedStage is the milestone of a fork whose rehearsal is over.
const RehearsedStage = "rehearsed"

// Rehearsal has a fork that is kept ready play its start: its medium holds nothing but randomness, read from entropy,
// which makes the fork differ from its siblings.
func Rehearsal(entropy io.Reader) *hypervisor.Rehearsal {
	return &hypervisor.Rehearsal{
		Medium: func(path string) error {
			seed := make([]byte, keydelivery.EntropySize)
			defer clear(seed)
			if _, err := io.ReadFull(entropy, seed); err != nil {
				return fmt.Errorf("make rehearsal: read entropy: %w", err)
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("make rehearsal: %w", err)
			}
			err = floppy.WriteFile(f, map[string][]byte{keydelivery.RehearsalFile: seed})
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("make rehearsal: %w", err)
			}
			return nil
		},
		Done: func(line []byte) bool {
			m, ok := console.Parse(line, time.Time{})
			return ok && m.GetStage() == RehearsedStage
		},
	}
}
