package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/testrun"
)

func newTest() *cobra.Command {
	var cfg testrun.Config
	var shard string
	var stats bool
	cmd := &cobra.Command{
		Use:   "test [PACKAGES] [-- GINKGO-FLAGS]",
		Short: "Run Ginkgo suites as CI needs them run",
		Long: "Runs the Ginkgo suites of the current module: a shard of them, what failed before, or many times over;\n" +
			"excuses what is quarantined, remembers how often each spec fails, tells whose fault a failure is, and\n" +
			"tries once more what this machine, and only this machine, made fail.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Patterns = args
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				cfg.Patterns, cfg.Flags = args[:at], args[at:]
			}
			if stats {
				return asTestUsage(testrun.Stats(cmd.OutOrStdout(), cfg.History, cfg.Guests))
			}
			var err error
			if cfg.Shard, err = testrun.ParseShard(shard); err != nil {
				return asTestUsage(err)
			}
			if cfg.Guests != "" {
				if _, err := local.ParseGuests(cfg.Guests); err != nil {
					return &usageError{err: err}
				}
			}
			if cfg.Program = os.Getenv("CLOUDTWIN_BIN"); cfg.Program == "" {
				if cfg.Program, err = os.Executable(); err != nil {
					return err
				}
			}
			cfg.Out = cmd.OutOrStdout()
			return asTestUsage(testrun.Run(cmd.Context(), cfg))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&shard, "shard", "", "run part i of n, as i/n: parts take about as long, and hold every spec once")
	flags.StringSliceVar(&cfg.Timings, "timings", nil, "take the durations for --shard from these JSON reports")
	flags.StringVar(&cfg.Rerun, "rerun", "", "run what failed in this JSON report, and nothing else")
	flags.IntVar(&cfg.Repeat, "repeat", 0, "run this many rounds; with --until-it-fails at most this many")
	flags.BoolVar(&cfg.UntilItFails, "until-it-fails", false, "run rounds until one fails")
	flags.StringVar(&cfg.Quarantine, "quarantine", "", "JSON file of specs whose failures do not count until a day")
	flags.StringVar(&cfg.History, "history", testrun.DefaultHistory(), "database of how specs fared; empty for none")
	flags.BoolVar(&stats, "stats", false, "print from the history which specs fail how often, and run nothing")
	flags.BoolVar(&cfg.List, "list", false, "print the specs that would run, and run nothing")
	flags.BoolVar(&cfg.Keep, "keep", false, "leave the clouds of suites that failed running, and say how to get in")
	flags.BoolVar(&cfg.Break, "break-on-failure", false, "stop at the first failure with its cloud and guests as they are")
	flags.BoolVar(&cfg.AllowSkips, "allow-skips", false, "let specs pass that skip themselves")
	flags.StringVar(&cfg.Guests, "guests", "", "kind of guests: fork, sim, cold (default from CLOUDTWIN_GUESTS)")
	flags.StringVar(&cfg.Labels, "labels", "", "run specs whose labels match, such as 'https && !slow'")
	flags.StringVar(&cfg.Output, "output", filepath.Join("artifacts", "test"), "folder for reports and artifacts")
	flags.StringVar(&cfg.JUnit, "junit", "", "write the JUnit report here too")
	return cmd
}

// asTestUsage tells the command line's faults from those of the tests and of the machine.
func asTestUsage(err error) error {
	if errors.Is(err, testrun.ErrUsage) {
		return &usageError{err: err}
	}
	return err
}
