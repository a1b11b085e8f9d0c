package invariant

import (
	"context"
	"fmt"

	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

// Keys checks that no private key lies outside its place.
type Keys struct {
	// Run says which keys there are and where to look.
	Run func(ctx context.Context) (leakscan.Run, error)
}

var _ Invariant = Keys{}

// Name implements Invariant.
func (Keys) Name() string { return "no key outside its place" }

// Check implements Invariant.
func (k Keys) Check(ctx context.Context) error {
	run, err := k.Run(ctx)
	if err != nil {
		return fmt.Errorf("collect keys to look for: %w", err)
	}
	defer func() {
		for _, key := range run.Keys {
			key.Wipe()
		}
	}()
	report, err := run.Check(ctx)
	if len(report.Leaks) > 0 {
		return Broken(k.Name(), "%v", report.Err())
	}
	return err
}
