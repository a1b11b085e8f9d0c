package replay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Difference is where a replay leaves its recording.
type Difference struct {
	// Track is what it is about: a guest and a part of its life, a call.
	Track string `json:"track"`
	// Recorded and Replayed are the two sides, and what follows on each; nil where there is nothing.
	Recorded     *Side `json:"recorded,omitempty"`
	RecordedNext *Side `json:"recordedNext,omitempty"`
	Replayed     *Side `json:"replayed,omitempty"`
	ReplayedNext *Side `json:"replayedNext,omitempty"`
	// Why says more where the sides do not speak for themselves.
	Why string `json:"why,omitempty"`

	order float64 // of the recording's events
}

// Side is what happened on one side.
type Side struct {
	Event uint64  `json:"event"` // its number
	At    float64 `json:"at"`    // seconds since the first event
	About string  `json:"about,omitempty"`
	Text  string  `json:"text"`
}

// sideOf tells a line; nil when there is none at that place.
func sideOf(lines []line, i int, began time.Time) *Side {
	if i < 0 || i >= len(lines) {
		return nil
	}
	l := lines[i]
	return &Side{Event: l.seq, At: l.at.Sub(began).Seconds(), About: l.about, Text: l.text}
}

// comparison holds a recording against its replay.
type comparison struct {
	recording *Recording
	replay    *trace
	began     time.Time // the replay's first event
	marks     []mark    // when steps were done in the replay, in order
	patience  time.Duration
}

// mark is a step of the recording, and when it began in the replay.
type mark struct {
	step  *Step
	begun time.Time
}

// differences returns all, the first one first.
func (c *comparison) differences() []Difference {
	c.replay.finish()
	all := map[string]bool{}
	for track := range c.recording.trace.tracks {
		all[track] = true
	}
	for track := range c.replay.tracks {
		all[track] = true
	}
	var found []Difference
	for _, track := range slices.Sorted(maps.Keys(all)) {
		if d := c.track(track); d != nil {
			found = append(found, *d)
		}
	}
	slices.SortStableFunc(found, func(a, b Difference) int { return cmp.Compare(a.order, b.order) })
	return found
}

// track compares one track. What the replay's guest did while that of the recording was still at something else, before
// the next step, tells only that it is faster, when it comes to that something, too.
func (c *comparison) track(name string) *Difference {
	recorded, replayed := c.lines(name)
	if len(recorded) > 0 && recorded[0].once || len(replayed) > 0 && replayed[0].once {
		return c.refusals(name)
	}
	i, j := 0, 0
	for i < len(recorded) && j < len(replayed) {
		switch {
		case recorded[i].text == replayed[j].text:
			i++
			j++
		case c.stepsInReplay(replayed[j].at) < c.stepsInRecording(recorded[i].at) &&
			slices.ContainsFunc(replayed[j+1:], func(l line) bool { return l.text == recorded[i].text }):
			j++
		default:
			return c.difference(name, i, j, float64(recorded[i].seq), "")
		}
	}
	switch {
	case i < len(recorded):
		return c.difference(name, i, j, float64(recorded[i].seq), "it did not happen in the replay")
	case j < len(replayed):
		if silence := c.silence(recorded, replayed[j]); silence > c.patience {
			return c.difference(name, i, j, c.orderOf(replayed[j].at), fmt.Sprintf(
				"nothing more of it happened in the recording, for %s", silence.Round(time.Millisecond)))
		}
	}
	return nil
}

func (c *comparison) difference(track string, i, j int, order float64, why string) *Difference {
	recorded, replayed := c.lines(track)
	return &Difference{Track: track, Why: why, order: order,
		Recorded: sideOf(recorded, i, c.recording.Began), RecordedNext: sideOf(recorded, i+1, c.recording.Began),
		Replayed: sideOf(replayed, j, c.began), ReplayedNext: sideOf(replayed, j+1, c.began)}
}

// refusals compares a track of polls and reports by what was refused.
func (c *comparison) refusals(name string) *Difference {
	recorded, replayed := c.recording.trace.tracks[name], c.replay.tracks[name]
	told := func(lines []line, text string) bool {
		return slices.ContainsFunc(lines, func(l line) bool { return l.text == text })
	}
	for i, l := range recorded {
		if l.bad && !told(replayed, l.text) && !c.recording.trace.ending(l, c.stepRecorded) {
			return c.difference(name, i, len(replayed), float64(l.seq), "it was not refused in the replay")
		}
	}
	for j, l := range replayed {
		if l.bad && !told(recorded, l.text) && !c.replay.ending(l, c.stepReplayed) {
			return c.difference(name, len(recorded), j, c.orderOf(l.at), "it was not refused in the recording")
		}
	}
	return nil
}

// lastPolls is how long before its end a guest may be refused what it was entitled to, at least: its load balancer goes
// first. On a busy machine it is from the step on that ends it.
const lastPolls = time.Second

// ending says whether a line is of a guest that was being ended on purpose. step returns when the step began that a
// time belongs to.
func (t *trace) ending(l line, step func(time.Time) time.Time) bool {
	guest, _, _ := strings.Cut(l.track, ": ")
	return slices.ContainsFunc(t.tracks[guest+stateTrack], func(s line) bool {
		return strings.HasPrefix(s.text, "shutting-down") &&
			(!l.at.Before(s.at.Add(-lastPolls)) || !l.at.Before(step(s.at)))
	})
}

// stepRecorded is when the step began in the recording that a time there belongs to; the time itself before all steps.
func (c *comparison) stepRecorded(at time.Time) time.Time {
	if n := c.stepsInRecording(at); n > 0 {
		return c.marks[n-1].step.Begin
	}
	return at
}

func (c *comparison) stepReplayed(at time.Time) time.Time {
	if n := c.stepsInReplay(at); n > 0 {
		return c.marks[n-1].begun
	}
	return at
}

// silence is how long the recording went on after the last line of a track, while its guest lived, where the replay
// tells of next.
func (c *comparison) silence(recorded []line, next line) time.Duration {
	since := c.recording.Began
	if n := c.stepsInReplay(next.at); n > 0 {
		since = c.marks[n-1].step.End
	}
	until := c.recording.Ended
	if len(recorded) > 0 {
		last := recorded[len(recorded)-1]
		if last.at.After(since) {
			since = last.at
		}
		if end, ok := c.recording.trace.ended[last.about]; ok {
			until = end
		}
	}
	return until.Sub(since)
}

// stepsInRecording counts the steps that had begun at a time.
func (c *comparison) stepsInRecording(at time.Time) int {
	n, _ := slices.BinarySearchFunc(c.marks, at, func(m mark, at time.Time) int {
		if m.step.Begin.After(at) {
			return 1
		}
		return -1
	})
	return n
}

func (c *comparison) stepsInReplay(at time.Time) int {
	n, _ := slices.BinarySearchFunc(c.marks, at, func(m mark, at time.Time) int {
		if m.begun.After(at) {
			return 1
		}
		return -1
	})
	return n
}

// orderOf is the place in the recording of something that happened only in the replay.
func (c *comparison) orderOf(at time.Time) float64 {
	if n := c.stepsInReplay(at); n > 0 {
		return float64(c.marks[n-1].step.Seq) + 0.5
	}
	return 0
}
