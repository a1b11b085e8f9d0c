package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/replay"
)

// shrink looks for the smallest fault schedule and prints it.
func (f *replayFlags) shrink(ctx context.Context, recording *replay.Recording, cfg replay.Config) error {
	failure, err := recording.Failure(cfg.Until)
	if err != nil {
		return &usageError{err: err}
	}
	if _, err := fmt.Fprintf(f.errs, "the failure: event %d, %s: %s\n", failure.Event, failure.Track,
		failure.Text); err != nil {
		return err
	}
	schedule, err := replay.Shrink(ctx, recording, cfg, failure, func(faults int, failed bool) {
		word := "does not happen"
		if failed {
			word = "happens"
		}
		_, _ = fmt.Fprintf(f.errs, "with %d faults it %s\n", faults, word)
	})
	if errors.Is(err, replay.ErrNotAgain) {
		return err
	}
	if err != nil {
		return fmt.Errorf("look for the smallest schedule: %w", err)
	}
	if f.asJSON {
		encoder := json.NewEncoder(f.out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(map[string]any{"failure": failure, "schedule": schedule})
	} else {
		_, err = f.out.Write(schedule.JSON())
	}
	if err == nil && f.schedule != "" {
		err = os.WriteFile(f.schedule, schedule.JSON(), 0o600)
	}
	return err
}
