package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/chaos"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/node"
)

func newChaos(o *options) *cobra.Command {
	var cfg chaos.Config
	var minutes float64
	var guests, schedule string
	var kinds []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Play random faults under a random workload and check what must never break",
		Long: "Starts a cloud of its own in this process for each seed, and plays faults and requests on it that are " +
			"drawn\nfrom the seed: the same seed means the same ones. All along and afterwards it checks that no " +
			"acknowledged\n" +
			"write is lost, that nobody serves with an expired identity, that no private key lies outside its place, and\n" +
			"that everything serves again soon after the last fault. Of a seed that breaks something it finds the smallest\n" +
			"schedule of faults that still does, writes it to a file, and prints the command that plays it again.\n" +
			"Exit code 1: something broke, 3: something could not be tried.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Guests, err = local.ParseGuests(guests); err != nil {
				return &usageError{err: fmt.Errorf("--guests: %w", err)}
			}
			cfg.Length, cfg.Images = time.Duration(minutes*float64(time.Minute)), o.images
			for _, k := range kinds {
				cfg.Kinds = append(cfg.Kinds, fault.Kind(k))
			}
			if schedule != "" {
				if cfg.Schedule, err = readSchedule(schedule); err != nil {
					return err
				}
			}
			if err := cfg.Validate(); err != nil {
				return &usageError{err: err}
			}
			cfg.Progress = cmd.ErrOrStderr()
			report, err := chaos.Run(cmd.Context(), cfg)
			if asJSON {
				return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(report))
			}
			describeChaos(cmd.OutOrStdout(), report, cfg, minutes)
			return err
		},
	}
	flags := cmd.Flags()
	flags.Uint64Var(&cfg.Seed, "seed", 1, "what faults and requests are drawn from")
	flags.IntVar(&cfg.Seeds, "seeds", 1, "how many seeds, from --seed on")
	flags.Float64Var(&minutes, "minutes", 1, "how long faults and requests are played for each seed")
	flags.IntVar(&cfg.Faults, "faults", 0, "faults of each schedule (default 5)")
	flags.IntVar(&cfg.Nodes, "nodes", 0, "nodes that the guests are on (default 2)")
	flags.StringSliceVar(&kinds, "kinds", nil, "kinds of faults (default: all)")
	flags.StringVar(&schedule, "schedule", "", "file of a schedule that is played instead, with the requests of --seed")
	flags.StringVar(&guests, "guests", cmp.Or(os.Getenv(local.GuestsVariable), string(node.GuestsSim)),
		"how guests come to life: sim, fork, cold; without the flag "+local.GuestsVariable+" chooses, or else sim")
	flags.IntVar(&cfg.Parallel, "parallel", 1, "seeds at the same time")
	flags.DurationVar(&cfg.Within, "within", 0,
		"the longest time from the last fault until everything serves (default 30s)")
	flags.BoolVar(&cfg.Shrink, "shrink", true, "look for the smallest schedule that fails")
	flags.StringVar(&cfg.Artifacts, "output", "artifacts/chaos", "folder for schedules that fail")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

// describeChaos writes a report for people.
func describeChaos(w io.Writer, r chaos.Report, cfg chaos.Config, minutes float64) {
	_, _ = fmt.Fprintf(w, "%d seeds with %d faults played, %d failed\n", r.Seeds, r.Faults, len(r.Failures))
	nodes := ""
	if cfg.Nodes > 0 {
		nodes = fmt.Sprintf(" --nodes %d", cfg.Nodes)
	}
	for _, f := range r.Failures {
		_, _ = fmt.Fprintf(w, "\nseed %d\n", f.Seed)
		for _, b := range f.Broken {
			_, _ = fmt.Fprintf(w, "  %s\n    %s\n", b.Invariant, strings.ReplaceAll(b.Detail, "\n", "\n    "))
		}
		_, _ = fmt.Fprintf(w, "  the smallest schedule that was found, after %d tries:\n", f.Tries)
		for _, one := range f.Schedule.Faults {
			_, _ = fmt.Fprintf(w, "    %s\n", one)
		}
		_, _ = fmt.Fprintf(w, "  play it again:\n    cloudtwin chaos --seed %d --minutes %g --guests %s%s --schedule %s\n",
			f.Seed, minutes, cfg.Guests, nodes, f.File)
	}
}
