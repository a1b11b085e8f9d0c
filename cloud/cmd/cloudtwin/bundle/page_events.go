package bundle

import (
	"encoding/json"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// pick is what a page takes of a part of the events.
type pick struct {
	rows  []json.RawMessage
	chart [bucketsInPage][2]int
}

// chosen says which events a page holds.
type chosen struct {
	report *Report
	kinds  map[string]int
	// from is the number of the first one that is held whatever it tells, counted from 0.
	from int
	// early bounds those before that one, in each part.
	early int
	// related are the traces and requests in which something did not work.
	related map[string]bool
}

func (p *pageWriter) events() error {
	c := chosen{report: p.report, kinds: p.kinds, related: map[string]bool{}}
	if p.report.Events > mostInPage {
		c.from = p.report.Events - latestInPage
		c.early = (mostInPage - latestInPage) / len(p.report.parts)
	}
	for i := range p.report.Troubles {
		ev := &p.report.Troubles[i]
		for _, chain := range []string{ev.Trace, ev.Attributes[journal.RequestID]} {
			if chain != "" {
				c.related[chain] = true
			}
		}
	}
	return eachPart(p.b, c.digest, func(part *pick) error {
		for i := range part.chart {
			p.chart[i][0] += part.chart[i][0]
			p.chart[i][1] += part.chart[i][1]
		}
		for _, row := range part.rows {
			if p.kept++; p.kept > 1 {
				p.raw(",\n")
			}
			if _, err := p.out.Write(row); err != nil {
				return err
			}
		}
		return p.err
	})
}

func (c *chosen) digest(part int) (each func(*line, words) error, done func() *pick) {
	out, at, early := &pick{}, 0, 0
	for _, n := range c.report.parts[:part] {
		at += n
	}
	width := max(1, c.report.To.Sub(c.report.From))
	each = func(l *line, w words) error {
		trouble := false
		if mayBeTrouble(l) {
			ev, err := l.event(w)
			if err != nil {
				return err
			}
			trouble = isTrouble(&ev)
		}
		bucket := min(bucketsInPage-1, max(0, int(float64(l.time.Sub(c.report.From))/float64(width)*bucketsInPage)))
		out.chart[bucket][0]++
		if trouble {
			out.chart[bucket][1]++
		}
		wanted := at >= c.from
		at++
		if !wanted {
			if early >= c.early || !trouble && l.kind != milestoneEvent && l.kind != stateEvent && !c.isRelated(l, w) {
				return nil
			}
			early++
		}
		row, err := c.row(l, w)
		out.rows = append(out.rows, row)
		return err
	}
	return each, func() *pick { return out }
}

func (c *chosen) isRelated(l *line, w words) bool {
	if len(c.related) == 0 {
		return false
	}
	if c.related[string(l.trace)] {
		return true
	}
	ev, err := l.event(w)
	return err == nil && c.related[ev.Attributes[journal.RequestID]]
}

// row is an event as the page's script reads it.
func (c *chosen) row(l *line, w words) (json.RawMessage, error) {
	ev, err := l.event(w)
	if err != nil {
		return nil, err
	}
	row := []any{ev.Seq, float64(ev.Time.Sub(c.report.From)/time.Microsecond) / 1000, c.kinds[ev.Kind], ev.Subject,
		ev.Attributes}
	if ev.Trace != "" {
		row = append(row, ev.Trace, ev.Span, ev.Parent)
	}
	return json.Marshal(row)
}
