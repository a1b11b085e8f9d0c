package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/demo"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

func newDemo(o *options) *cobra.Command {
	var guests guestsFlags
	var asJSON bool
	var evidence string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Do the main job: a guest serves TLS with a key that came by floppy",
		Long: "Starts a cloud and a node, uploads a certificate, starts two backends and a load balancer, and asks it\n" +
			"for a page over verified TLS. Shows each step of the key's journey with its duration, and leaves nothing\n" +
			"running.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			machine := local.Config{Layout: local.Layout(local.DemoState()), Images: o.images, Fresh: true}
			if cmd.Flags().Changed("state") {
				machine.Layout = local.Layout(o.state)
			}
			var err error
			machine.Guests, err = guests.check("")
			if err := errors.Join(err, checkState(machine.Layout)); err != nil {
				return &usageError{err: err}
			}
			dir, err := filepath.Abs(evidence)
			if err != nil {
				return fmt.Errorf("evidence folder: %w", err)
			}
			return runDemo(cmd.Context(), machine, demo.Config{
				Journal: machine.Layout.Journal(), Evidence: dir, Presenter: presenter(cmd.OutOrStdout(), asJSON),
				StepTimeout: timeout,
			})
		},
	}
	flags := cmd.Flags()
	guests.register(cmd)
	flags.BoolVar(&asJSON, "json", false, "print events as JSON, one a line")
	flags.StringVar(&evidence, "evidence", filepath.Join("artifacts", "demo"), "folder for consoles, events and reports")
	flags.DurationVar(&timeout, "step-timeout", time.Minute, "how long one step may take")
	return cmd
}

func presenter(w io.Writer, asJSON bool) demo.Presenter {
	switch {
	case asJSON:
		return demo.NewJSON(w)
	case isatty.IsTerminal(os.Stdout.Fd()):
		return demo.NewLive(w)
	default:
		return demo.NewPlain(w)
	}
}

func runDemo(ctx context.Context, machine local.Config, cfg demo.Config) (err error) {
	var twin *local.Twin
	defer func() {
		if twin != nil {
			err = errors.Join(err, twin.Close())
		}
	}()
	cfg.Start = func(ctx context.Context) (demo.Cloud, error) {
		twin, err = local.Start(ctx, machine)
		if err != nil {
			return nil, err
		}
		return twin, nil
	}
	_, err = demo.Run(ctx, cfg)
	return err
}
