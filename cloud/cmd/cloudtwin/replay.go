package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/replay"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
)

// errParted means that a replay left its recording, which has been told.
var errParted = errors.New("the replay left the recording")

// replayFlags are the command's.
type replayFlags struct {
	guests         guestsFlags
	speed, until   string
	keep, asJSON   bool
	bisect         bool
	patience       time.Duration
	noFaults       bool
	schedule       string
	out, errs      io.Writer
	imagesFolder   string
	layout         local.Layout
	temporaryState bool
}

func newReplay(o *options) *cobra.Command {
	f := &replayFlags{}
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Do again what a bundle tells of, and say where it comes out otherwise",
		Long: "Starts a cloud like that of the bundle, makes the same calls to its API by the same callers, has the same\n" +
			"faults begin and end, and holds what then happens against the recording. Says where the two part first.\n" +
			"Exit code 0: they do not; 1: they do; 3: this machine could not play it.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{err: errors.New("takes one argument, a file that 'cloudtwin bundle' wrote")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			f.out, f.errs, f.imagesFolder = cmd.OutOrStdout(), cmd.ErrOrStderr(), o.images
			f.temporaryState = !cmd.Flags().Changed("state")
			f.layout = local.Layout(o.state)
			return f.run(cmd.Context(), args[0])
		},
	}
	flags := cmd.Flags()
	f.guests.register(cmd)
	flags.StringVar(&f.speed, "speed", "max", "real: as fast as the recording; a number: that many times as fast; max: "+
		"each step as soon as what was before it has happened")
	flags.StringVar(&f.until, "until", "", "stop there with everything alive: an event's number, or "+
		"KIND[:SUBJECT[:NAME=VALUE]], of which the first is meant")
	flags.BoolVar(&f.keep, "keep", false, "stay alive at the end, until Ctrl-C or 'cloudtwin down'")
	flags.BoolVar(&f.bisect, "bisect", false, "look for the smallest fault schedule with which the recorded failure "+
		"still happens; --until names the failure, otherwise it is the first one that a guest or an invariant tells of")
	flags.StringVarP(&f.schedule, "output", "o", "", "with --bisect, file for the schedule")
	flags.DurationVar(&f.patience, "patience", 0, "how long to wait for something that happened in the recording "+
		"(default as long as guests of the kind may take to boot)")
	flags.BoolVar(&f.noFaults, "no-faults", false, "leave the faults out")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

// check returns what is wrong with the flags.
func (f *replayFlags) check() (cfg replay.Config, err error) {
	var guestsErr, speedErr, bisectErr error
	cfg.Guests, guestsErr = f.guests.check("")
	cfg.Speed, speedErr = parseSpeed(f.speed)
	switch {
	case f.bisect && f.keep:
		bisectErr = errors.New("--bisect plays many times, so that there is nothing for --keep")
	case f.patience < 0:
		bisectErr = fmt.Errorf("--patience %s: want a time above 0", f.patience)
	case f.bisect && f.noFaults:
		bisectErr = errors.New("--bisect looks among the faults that --no-faults leaves out")
	case f.schedule != "" && !f.bisect:
		bisectErr = errors.New("--output is for --bisect")
	}
	if err := errors.Join(guestsErr, speedErr, bisectErr, checkState(f.layout)); err != nil {
		return cfg, &usageError{err: err}
	}
	cfg.Layout, cfg.Images, cfg.Patience = f.layout, f.imagesFolder, f.patience
	if f.noFaults {
		cfg.Faults = &fault.Schedule{}
	}
	return cfg, nil
}

func parseSpeed(text string) (float64, error) {
	switch text {
	case "max":
		return 0, nil
	case "real":
		return 1, nil
	}
	speed, err := strconv.ParseFloat(text, 64)
	const fastest = 1e6
	if err != nil || !(speed > 0 && speed <= fastest) {
		return 0, fmt.Errorf("--speed %q: want real, max or a number above 0 and at most %.0f", text, fastest)
	}
	return speed, nil
}

func (f *replayFlags) run(ctx context.Context, path string) (err error) {
	if f.temporaryState {
		dir, err := os.MkdirTemp("", "ctr")
		if err != nil {
			return fmt.Errorf("make a state folder: %w", err)
		}
		f.layout = local.Layout(dir)
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	cfg, err := f.check()
	if err != nil {
		return err
	}
	recording, err := readRecording(path)
	if err != nil {
		return err
	}
	if f.until != "" {
		if cfg.Until, err = recording.FindEvent(f.until); err != nil {
			return &usageError{err: fmt.Errorf("--until: %w", err)}
		}
	}
	if err := local.Prepare(cfg.Layout); err != nil {
		return err
	}
	if f.bisect {
		return f.shrink(ctx, recording, cfg)
	}
	if f.keep || cfg.Until > 0 {
		cfg.Stay = f.stay
	}
	result, err := replay.Run(ctx, recording, cfg)
	if err != nil || cfg.Stay != nil {
		return err
	}
	return f.tell(result)
}

// readRecording opens a bundle and reads its steps.
func readRecording(path string) (_ *replay.Recording, err error) {
	b, err := bundle.Open(path)
	if err != nil {
		return nil, &usageError{err: err}
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	recording, err := replay.Read(b)
	if errors.Is(err, replay.ErrRecording) || errors.Is(err, bundle.ErrNotBundle) {
		return nil, &usageError{err: err}
	}
	return recording, err
}

// tell prints the result; the error is errParted when the two are not the same.
func (f *replayFlags) tell(result *replay.Result) error {
	if f.asJSON {
		encoder := json.NewEncoder(f.out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(result); err != nil {
			return err
		}
	} else if err := result.Write(f.out); err != nil {
		return err
	}
	if !result.Same {
		return errParted
	}
	return nil
}

// stay tells how it went and how to get in, and waits for Ctrl-C or 'cloudtwin down'.
func (f *replayFlags) stay(ctx context.Context, result *replay.Result, ended <-chan struct{}) error {
	told := f.tell(result)
	if told != nil && !errors.Is(told, errParted) {
		return told
	}
	state := " --state " + string(f.layout)
	lines := []string{"everything is alive; to get in:", "  eval \"$(cloudtwin env" + state + ")\"",
		"  cloudtwin ps" + state}
	for _, guest := range result.Guests {
		lines = append(lines, "  cloudtwin console "+guest+state)
	}
	lines = append(lines, "  cloudtwin events"+state, "state in "+string(f.layout), "end it: Ctrl-C or 'cloudtwin down"+
		state+"'")
	if _, err := fmt.Fprintln(f.errs, strings.Join(lines, "\n")); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return told
}
