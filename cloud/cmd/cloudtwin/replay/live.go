package replay

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// live is the trace of the cloud that runs, as it grows.
type live struct {
	mu      sync.Mutex
	trace   *trace
	began   time.Time
	changed chan struct{}   // closed when something came, and made anew
	nodes   map[string]bool // that are up
	// connected counts the connections of each node.
	connected map[string]int
	seq       uint64 // of the last event: a cloud that was started again tells the older ones too
}

func newLive() *live {
	return &live{trace: newTrace(), changed: make(chan struct{}), nodes: map[string]bool{},
		connected: map[string]int{}}
}

// follow takes events until they end.
func (l *live) follow(events <-chan journal.Event) {
	for ev := range events {
		l.take(&ev)
	}
}

func (l *live) take(ev *journal.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began.IsZero() {
		l.began = ev.Time
	}
	if ev.Seq != 0 && ev.Seq <= l.seq {
		return
	}
	l.seq = ev.Seq
	if !counts(ev.Kind) {
		return
	}
	if ev.Kind == "node.connected" {
		l.connected[ev.Subject]++
	}
	if ev.Kind == "node.up" || ev.Kind == "node.down" {
		l.nodes[ev.Subject] = ev.Kind == "node.up"
	}
	l.trace.add(ev)
	l.wake()
}

// start is when the first event was.
func (l *live) start() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began
}

// wake tells those who wait. The caller holds mu.
func (l *live) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// connections returns how often each node has connected.
func (l *live) connections() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.connected)
}

// learnCall names what the answer to a call made.
func (l *live) learnCall(number int, made []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trace.names.learnCall(number, made)
	l.trace.retry()
	l.wake()
}

// await returns true when ready is, and false when it is not within the bound; ready is called with the trace to
// itself.
func (l *live) await(ctx context.Context, bound time.Duration, ready func() bool) (bool, error) {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	for {
		l.mu.Lock()
		ok, changed := ready(), l.changed
		l.mu.Unlock()
		if ok {
			return true, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// has says whether the replay has told a line of the recording: as often as it is among the first n of its track.
func (l *live) has(recorded []line, n int) bool {
	want := recorded[n-1]
	times := 0
	for _, r := range recorded[:n] {
		if r.text == want.text {
			times++
		}
	}
	for _, r := range l.trace.tracks[want.track] {
		if r.text == want.text {
			times--
		}
	}
	return times <= 0
}

// landmarks are the lines of a recording that a step waits for, in order.
type landmarks struct {
	recorded tracks
	order    []landmark
	next     int
	given    map[string]bool // tracks on which something did not come: nobody waits for more of them
}

// landmark is the n-th line of a track.
type landmark struct {
	track string
	n     int // from 1
	at    time.Time
}

func newLandmarks(t *trace) *landmarks {
	m := &landmarks{recorded: t.tracks, given: map[string]bool{}}
	for track, lines := range t.tracks {
		for i, l := range lines {
			if !l.once {
				m.order = append(m.order, landmark{track: track, n: i + 1, at: l.at})
			}
		}
	}
	slices.SortFunc(m.order, func(a, b landmark) int { return a.at.Compare(b.at) })
	return m
}

// await returns when everything that had happened before a time in the recording has happened, or did not within
// the bound and as long as it took there. What did not come is not waited for again. It returns the first that is
// missing.
func (m *landmarks) await(ctx context.Context, l *live, before time.Time, bound time.Duration) (
	missing string, err error,
) {
	for ; m.next < len(m.order) && m.order[m.next].at.Before(before); m.next++ {
		mark := m.order[m.next]
		if m.given[mark.track] {
			continue
		}
		lines := m.recorded[mark.track]
		// Some things take the time that they take: another VM in place of one that failed comes after a pause.
		took := time.Duration(0)
		if m.next > 0 {
			took = mark.at.Sub(m.order[m.next-1].at)
		}
		if missing != "" {
			took = 0
		}
		came, err := l.await(ctx, bound+took, func() bool { return l.has(lines, mark.n) })
		if err != nil {
			return missing, err
		}
		if !came {
			m.given[mark.track] = true
			if missing == "" {
				missing = mark.track + ": " + lines[mark.n-1].text
			}
			// One thing that does not come is often the cause of others.
			bound = min(bound, time.Second)
		}
	}
	return missing, nil
}
