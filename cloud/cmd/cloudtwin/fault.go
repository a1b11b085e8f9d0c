package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
)

func newFault(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fault",
		Short: "Have things go wrong, on purpose and at a known time",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{err: errors.New("names what to do: add, ls, clear, load or kinds")}
		},
	}
	cmd.AddCommand(newFaultAdd(o), newFaultList(o), newFaultClear(o), newFaultLoad(o), newFaultKinds())
	return cmd
}

func newFaultAdd(o *options) *cobra.Command {
	var f fault.Fault
	cmd := &cobra.Command{
		Use:   "add KIND [NAME=VALUE ...]",
		Short: "Add a fault to the running cloud",
		Long: "Adds a fault to the running cloud: at once, or after --at. 'cloudtwin fault kinds' lists the kinds, what\n" +
			"their targets name and their parameters. It ends after --for, or when it is cleared. What is added is kept in\n" +
			"faults.json in the state folder, which 'fault load' and 'up --faults' play again.\n" +
			"Targets: of the API, operations (Create*); of the store, read or write; of nodes, their names; of guests,\n" +
			"selectors with commas between them: an instance id, lb:NAME, image:NAME, node:NAME. All by default.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{err: errors.New("takes a kind of fault; 'cloudtwin fault kinds' lists them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Kind = fault.Kind(args[0])
			for _, arg := range args[1:] {
				name, value, ok := strings.Cut(arg, "=")
				if !ok {
					return &usageError{err: fmt.Errorf("%q: want NAME=VALUE, such as delay=200ms", arg)}
				}
				if f.With == nil {
					f.With = map[string]string{}
				}
				f.With[name] = value
			}
			checked := f
			if checked.ID == "" {
				checked.ID = "new" // the cloud chooses one
			}
			if err := checked.Validate(); err != nil {
				return &usageError{err: err}
			}
			kept, err := o.client().FaultAdd(cmd.Context(), f)
			if err != nil {
				return asRefused(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "added %s\n", kept)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Target, "target", "*", "what it happens to")
	flags.DurationVar(&f.At.Duration, "at", 0, "when it begins, from now on")
	flags.DurationVar(&f.For.Duration, "for", 0, "how long it lasts (default: until it is cleared)")
	flags.Float64Var(&f.Rate, "rate", 0, "the part of all occasions on which it happens, above 0 to 1 (default 1)")
	flags.StringVar(&f.ID, "id", "", "its name (default: f1, f2, ...)")
	flags.Uint64Var(&f.Seed, "seed", 0, "seed of its chance (default: the schedule's)")
	return cmd
}

func newFaultList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List faults that are to begin, go on, or have ended",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := o.client().Faults(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "FAULT\tKIND\tTARGET\tSTATE\tHAPPENED\tREFUSED")
			for i := range list {
				s := &list[i]
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", s.ID, s.Kind, s.Target, stateOf(s, time.Now()), s.Applied,
					whyOf(s))
			}
			return w.Flush()
		},
	}
}

// stateOf is a fault's state, and until when.
func stateOf(s *play.Status, now time.Time) string {
	if s.State == play.Active && s.For.Duration > 0 {
		return fmt.Sprintf("%s for %s", s.State, s.Began.Add(s.For.Duration).Sub(now).Round(time.Millisecond))
	}
	return string(s.State)
}

func whyOf(s *play.Status) string {
	if s.Refused == 0 {
		return "-"
	}
	return fmt.Sprintf("%d: %s", s.Refused, s.Why)
}

func newFaultClear(o *options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "clear [ID | --all]",
		Short: "End a fault, or all",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == all {
				return &usageError{err: errors.New("takes a fault's id, as 'cloudtwin fault ls' shows it, or --all")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if !all {
				id = args[0]
			}
			return asRefused(o.client().FaultClear(cmd.Context(), id))
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	return cmd
}

func newFaultLoad(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "load FILE",
		Short: "End all faults and play a schedule from a file",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{err: errors.New("takes a schedule's file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readSchedule(args[0])
			if err != nil {
				return err
			}
			return asRefused(o.client().FaultLoad(cmd.Context(), *s))
		},
	}
}

// readSchedule reads a schedule's file; what is wrong with it is a usage error.
func readSchedule(path string) (*fault.Schedule, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("open schedule of faults: %w", err)}
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, fault.MaxFile+1))
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("read schedule of faults: %w", err)}
	}
	s, err := fault.Parse(text)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("%s: %w", path, err)}
	}
	return &s, nil
}

func newFaultKinds() *cobra.Command {
	return &cobra.Command{
		Use:   "kinds",
		Short: "List the kinds of faults and their parameters",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, info := range fault.Catalogue() {
				_, _ = fmt.Fprintf(w, "%s\t%s\n", info.Kind, info.About)
				for _, p := range info.With {
					byDefault := p.Default
					if p.Required() {
						byDefault = "(needed)"
					}
					_, _ = fmt.Fprintf(w, "  %s=%s\t%s\n", p.Name, byDefault, p.About)
				}
			}
			return w.Flush()
		},
	}
}
