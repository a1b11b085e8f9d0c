package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"time"
)

// backoff gives growing pauses between attempts: each twice the one before up to max, of which a random half is
// dropped, so that guests that lost the same cloud at once do not come back at once.
//
// The randomness is the machine's, not math/rand's: that one is seeded when the process starts, and guests copied from
// one template all have the same process start.
type backoff struct {
	first, max time.Duration
	last       time.Duration
}

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.first), b.max)
	var random [8]byte
	// crypto/rand.Read never fails; it ends the program instead.
	_, _ = rand.Read(random[:])
	half := uint64(b.last / 2)
	return b.last - time.Duration(binary.LittleEndian.Uint64(random[:])%(half+1))
}

func (b *backoff) reset() { b.last = 0 }

// sleep waits and tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// alarm is a timer that need not be set. Its zero value is unset.
type alarm struct{ timer *time.Timer }

// C fires once after set; it is nil, and blocks for ever, while the alarm is unset.
func (a *alarm) C() <-chan time.Time {
	if a.timer == nil {
		return nil
	}
	return a.timer.C
}

func (a *alarm) isSet() bool { return a.timer != nil }

func (a *alarm) set(d time.Duration) {
	a.unset()
	a.timer = time.NewTimer(d)
}

// unset is called too after the alarm fired.
func (a *alarm) unset() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
