package replay

import (
	"slices"
	"strings"
)

// stateTrack ends the name of the track of a guest's states, and born is the first of them.
const (
	stateTrack = ": state"
	born       = "pending"
)

// lines are a track's on both sides, as they can be compared. The cloud writes that a guest is pending after its record
// is there: its node may have started it by then and tell so first, and a cloud that is killed in between never says
// it. That a guest was pending before it was anything else is certain, so it is put there.
func (c *comparison) lines(track string) (recorded, replayed []line) {
	recorded, replayed = c.recording.trace.tracks[track], c.replay.tracks[track]
	if !strings.HasSuffix(track, stateTrack) {
		return recorded, replayed
	}
	recorded, replayed = bornFirst(recorded), bornFirst(replayed)
	switch {
	case isBorn(recorded) && len(replayed) > 0 && !isBorn(replayed):
		replayed = withBirth(replayed)
	case isBorn(replayed) && len(recorded) > 0 && !isBorn(recorded):
		recorded = withBirth(recorded)
	}
	return recorded, replayed
}

func isBorn(lines []line) bool { return len(lines) > 0 && lines[0].text == born }

// bornFirst has the line that a guest is pending come first, if there is one.
func bornFirst(lines []line) []line {
	at := slices.IndexFunc(lines, func(l line) bool { return l.text == born })
	if at <= 0 {
		return lines
	}
	return slices.Concat(lines[at:at+1], lines[:at], lines[at+1:])
}

// withBirth says that a guest was pending when the first was told of it.
func withBirth(lines []line) []line {
	first := lines[0]
	first.text = born
	return slices.Concat([]line{first}, lines)
}
