package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/scale"
)

func newScale(*options) *cobra.Command {
	var cfg scale.Config
	var mostGrowth float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Measure a cloud with very many nodes and simulated guests",
		Long: "Starts a cloud and many nodes in this process, creates load balancers with an HTTPS listener over the API\n" +
			"and waits until each serves: guests are simulated; cryptography, etcd and all protocols are real. Prints\n" +
			"what a load balancer costs as their number grows, and leaves nothing behind. --images and --state have no\n" +
			"part in it.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return &usageError{err: err}
			}
			if mostGrowth < 0 {
				return &usageError{err: fmt.Errorf("--max-growth %g: expected a factor such as 1.25, or 0 for no limit",
					mostGrowth)}
			}
			cfg.Progress = cmd.ErrOrStderr()
			report, err := scale.Run(cmd.Context(), cfg)
			if len(report.Rows) == 0 {
				return err
			}
			if err == nil && mostGrowth > 0 {
				err = report.CheckGrowth(mostGrowth)
			}
			if asJSON {
				return errors.Join(err, json.NewEncoder(os.Stdout).Encode(report))
			}
			return errors.Join(err, report.WriteTable(cmd.OutOrStdout()))
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Nodes, "nodes", 100, "number of nodes")
	flags.IntVar(&cfg.LoadBalancers, "load-balancers", 1000, "number of load balancers")
	flags.IntSliceVar(
		&cfg.Steps,
		"steps",
		nil,
		"numbers of load balancers at which to measure, rising (default 1000,5000,20000)",
	)
	flags.IntVar(
		&cfg.Concurrency,
		"concurrency",
		16,
		"load balancers under way at once, from the request until they serve",
	)
	flags.DurationVar(&cfg.Patience, "patience", time.Minute, "how long nothing may come to serve before the run fails")
	flags.Float64Var(&mostGrowth, "max-growth", 0, "how many times as much as one of the first row a load balancer may "+
		"cost in later rows, in CPU and in memory, before the run counts as failed (default: no limit)")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}
