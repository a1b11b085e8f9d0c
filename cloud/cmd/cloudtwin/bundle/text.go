package bundle

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/events"
)

// Write tells the report for people.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	p := r.Manifest.Program
	fmt.Fprintf(&b, "made %s of %s by cloudtwin %s on %s with %d cores\n", r.Manifest.Made.Format(time.RFC3339),
		r.Manifest.State, p.Version, p.Platform, p.Cores)
	for _, name := range slices.Sorted(maps.Keys(r.Manifest.Selected)) {
		fmt.Fprintf(&b, "only --%s %s\n", name, r.Manifest.Selected[name])
	}
	fmt.Fprintf(&b, "%d events", r.Events)
	if r.Events > 0 {
		fmt.Fprintf(&b, " in %s from %s", r.To.Sub(r.From).Round(time.Millisecond), r.From.UTC().Format(time.RFC3339))
	}
	b.WriteString("\n")
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		fmt.Fprintf(&b, "%8d %s\n", r.Kinds[kind], kind)
	}
	for _, g := range r.Guests {
		g.write(&b)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return r.writeTroubles(w)
}

func (g *Guest) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s", g.ID)
	for _, part := range []string{g.Image, g.How, g.Node, g.State, g.Reason} {
		if part != "" {
			b.WriteString("  " + part)
		}
	}
	b.WriteByte('\n')
	for i, s := range g.Stages {
		passed := ""
		if i > 0 {
			passed = fmt.Sprintf("%+.3fs", s.At.Sub(g.Stages[i-1].At).Seconds())
		}
		fmt.Fprintf(b, "%12s  %s\n", passed, s.Name)
	}
}

func (r *Report) writeTroubles(w io.Writer) error {
	if len(r.Troubles) == 0 {
		_, err := io.WriteString(w, "\nno event tells of trouble\n")
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%d events tell of trouble, the first ones:\n",
		len(r.Troubles)+r.MoreTroubles); err != nil {
		return err
	}
	const shown = 20
	lines := events.NewWriter(w, false)
	for i := range r.Troubles[:min(shown, len(r.Troubles))] {
		if err := lines.Write(&r.Troubles[i]); err != nil {
			return err
		}
	}
	return nil
}
