package sim

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// wallClock is what a guest takes for the time: the host's, until the guest sets it. The zero value is ready for
// use.
type wallClock struct{ ahead atomic.Int64 } // nanoseconds

// now is the time by this clock.
func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// set makes it show another time, and go on from there.
func (c *wallClock) set(to time.Time) error {
	c.ahead.Store(int64(time.Until(to)))
	return nil
}

// takeTime sets the clock by the medium, as a copy of a template does. A copy gets its medium when it is about to
// read it, this guest before its boot: what passed since is added, lest the clock be behind by the boot.
func (g *Guest) takeTime(_ context.Context, boot keydelivery.Boot) error {
	if boot.Time.IsZero() {
		return nil
	}
	return g.m.wall.set(boot.Time.Add(time.Since(g.m.drive.since())))
}
