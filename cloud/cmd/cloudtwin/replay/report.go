package replay

import (
	"fmt"
	"io"
	"strings"

	"github.com/cloudtwin/cloudtwin/node"
)

// Write tells the result for people.
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "recorded  %s\nreplayed  %s, %.1f x as fast\n", r.Recorded, r.Replayed, r.Speedup)
	if r.Until > 0 {
		fmt.Fprintf(&b, "stopped   at event %d of the recording\n", r.Until)
	}
	for _, n := range r.NotPlayed {
		fmt.Fprintf(&b, "not played: event %d, %s: %s\n", n.Event, n.What, n.Reason)
	}
	if r.Same {
		fmt.Fprintf(&b, "same: %d lines in %d tracks\n", r.Lines, r.Tracks)
		_, err := io.WriteString(w, b.String())
		return err
	}
	d := r.First
	fmt.Fprintf(&b, "\nthe replay leaves the recording: %s\n", d.Track)
	if d.Why != "" {
		fmt.Fprintf(&b, "  %s\n", d.Why)
	}
	writeSide(&b, "recorded", d.Recorded)
	writeSide(&b, "    next", d.RecordedNext)
	writeSide(&b, "replayed", d.Replayed)
	writeSide(&b, "    next", d.ReplayedNext)
	if r.More > 0 {
		fmt.Fprintf(&b, "%d other differences come after it in the recording; --json tells the first alone, too\n", r.More)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeSide(b *strings.Builder, name string, s *Side) {
	if s == nil {
		fmt.Fprintf(b, "  %s  nothing\n", name)
		return
	}
	number := ""
	if s.Event > 0 {
		number = fmt.Sprintf("#%d", s.Event)
	}
	fmt.Fprintf(b, "  %s  %7s %+9.3fs  %s", name, number, s.At, s.Text)
	if s.About != "" {
		fmt.Fprintf(b, "  (%s)", s.About)
	}
	b.WriteByte('\n')
}

// String is one line.
func (s Summary) String() string {
	guests := s.Guests
	if guests == "" {
		guests = node.GuestMode("no")
	}
	text := fmt.Sprintf("%d events in %.2f s, %s guests, nodes: %d, calls: %d", s.Events, s.Seconds, guests, s.Nodes,
		s.Calls)
	if s.Faults > 0 {
		text += fmt.Sprintf(", faults: %d", s.Faults)
	}
	return text
}
