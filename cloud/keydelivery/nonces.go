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

// nonceCache remembers what it was given for at least life and at most twice that, in two generations, so that
// forgetting costs nothing.
type nonceCache struct {
	mu       sync.Mutex
	life     time.Duration
	max      int
	turned   time.Time
	new, old map[[sha256.Size]byte]struct{}
}

func newNonceCache(limit int, life time.Duration) *nonceCache {
	return &nonceCache{max: limit, life: life, new: map[[sha256.Size]byte]struct{}{}}
}

func (c *nonceCache) add(nonce string, now time.Time) nonceVerdict {
	id := sha256.Sum256([]byte(nonce))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turned.IsZero() {
		c.turned = now
	}
	switch age := now.Sub(c.turned); {
	case age > 2*c.life:
		c.old, c.new, c.turned = nil, map[[sha256.Size]byte]struct{}{}, now
	case age > c.life:
		c.old, c.new, c.turned = c.new, map[[sha256.Size]byte]struct{}{}, now
	}
	if _, seen := c.new[id]; seen {
		return nonceSeen
	}
	if _, seen := c.old[id]; seen {
		return nonceSeen
	}
	if len(c.new)+len(c.old) >= c.max {
		return nonceFull
	}
	c.new[id] = struct{}{}
	return nonceFresh
}
