package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// downTimeout is how long a cloud may take to end its guests.
const downTimeout = 60 * time.Second

func newDown(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the cloud, its guests and their state, also after a crash",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout := local.Layout(o.state)
			if err := o.client().Shutdown(cmd.Context()); err != nil && !errors.Is(err, operator.ErrNotRunning) {
				return err
			}
			// Also what a killed process left, or one that was started with --keep.
			if err := removeOnceFree(cmd.Context(), layout); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "nothing is left of %s\n", layout)
			return nil
		},
	}
}

// removeOnceFree removes a state folder as soon as the process that was asked to end has let go of it.
func removeOnceFree(ctx context.Context, layout local.Layout) error {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := local.Remove(ctx, layout)
		if !errors.Is(err, store.ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
