package keydelivery

import (
	"crypto/sha256"
	"sync"
	"time"
)

type nonceVerdict int

const (
	nonceFresh nonceVerdict = iota
	nonceSeen
	nonceFull
)

// nonceUse is by whom and when something was used first.
type nonceUse struct {
	session [16]byte // of a hash
	nanos   int64
}

// nonceCache remembers what it was given for at least life and at most twice that, in two generations, so that
// forgetting costs nothing.
type nonceCache struct {
	mu       sync.Mutex
	life     time.Duration
	max      int
	turned   time.Time
	new, old map[[sha256.Size]byte]nonceUse
}

func newNonceCache(limit int, life time.Duration) *nonceCache {
	return &nonceCache{max: limit, life: life, new: map[[sha256.Size]byte]nonceUse{}}
}

// add takes note of a use. One that was seen before is fresh once more to the same session within again of its first
// use; zero means never.
func (c *nonceCache) add(nonce, session string, again time.Duration, now time.Time) nonceVerdict {
	id, by := sha256.Sum256([]byte(nonce)), sha256.Sum256([]byte(session))
	use := nonceUse{session: [16]byte(by[:16]), nanos: now.UnixNano()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(now)
	first, seen := c.new[id]
	if !seen {
		first, seen = c.old[id]
	}
	if seen {
		if first.session == use.session && again > 0 && use.nanos-first.nanos <= int64(again) {
			return nonceFresh
		}
		return nonceSeen
	}
	if len(c.new)+len(c.old) >= c.max {
		return nonceFull
	}
	c.new[id] = use
	return nonceFresh
}

// turn forgets a generation whose life is over.
func (c *nonceCache) turn(now time.Time) {
	if c.turned.IsZero() {
		c.turned = now
	}
	switch age := now.Sub(c.turned); {
	case age > 2*c.life:
		c.old, c.new, c.turned = nil, map[[sha256.Size]byte]nonceUse{}, now
	case age > c.life:
		c.old, c.new, c.turned = c.new, map[[sha256.Size]byte]nonceUse{}, now
	}
}
