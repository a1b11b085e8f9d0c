package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/events"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func newEvents(o *options) *cobra.Command {
	var (
		selection      events.Selection
		follow, asJSON bool
		since          string
	)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Tell what happened: requests, decisions, deliveries, guests' milestones",
		Long: "Prints the events of the cloud in --state, running or ended, in their order. No event holds a secret.\n" +
			"With several filters, an event must pass all.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if selection.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			show := &shower{selection: &selection, writer: events.NewWriter(cmd.OutOrStdout(), asJSON)}
			path := local.Layout(o.state).Journal()
			if selection.Twice() {
				_ = journal.Read(path, func(ev journal.Event) { selection.Wants(&ev) }) // its error comes again below
			}
			err = journal.Read(path, func(ev journal.Event) { show.event(&ev) })
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w, and none has run in %s; name its folder with --state", operator.ErrNotRunning, o.state)
			}
			if err = errors.Join(err, show.err); err != nil || !follow {
				return err
			}
			err = o.client().Follow(cmd.Context(), func(ev journal.Event) bool { return show.event(&ev) })
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			return errors.Join(err, show.err)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on, until Ctrl-C or the cloud's end")
	flags.StringVar(&selection.VM, "vm", "", "events of the instance with this id")
	flags.StringVar(&selection.LoadBalancer, "lb", "", "events of the load balancer with this name and of its VMs")
	flags.StringVar(&selection.Request, "request", "", "events of the request with this id, and of what followed from it")
	flags.StringVar(&selection.Trace, "trace", "", "events of the trace with this id: a request and all that followed")
	flags.StringVar(&selection.Kind, "kind", "", "events of this kind, such as delivery or api.request")
	flags.StringVar(&since, "since", "", "events since a time (2026-11-22T06:00:00Z) or of the last while (90s, 15m, 2h)")
	flags.BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// shower shows the events that are wanted, each once.
type shower struct {
	selection *events.Selection
	writer    *events.Writer
	last      uint64
	err       error
}

// event shows ev and says whether more can be shown.
func (s *shower) event(ev *journal.Event) bool {
	if s.err != nil || (ev.Seq != 0 && ev.Seq <= s.last) {
		return s.err == nil
	}
	s.last = ev.Seq
	if s.selection.Wants(ev) {
		s.err = s.writer.Write(ev)
	}
	return s.err == nil
}

// parseSince reads a time, or how long ago one was. Empty means from the beginning.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, &usageError{
			err: fmt.Errorf("--since %q: want a time such as 2026-11-22T06:00:00Z, or how long ago it was, such as 15m", text),
		}
	}
	return at, nil
}
