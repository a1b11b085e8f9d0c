package libvirt

import (
	"fmt"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// The pauses between two tries to connect to a daemon that is away.
const (
	firstRedial = 100 * time.Millisecond
	longRedial  = 5 * time.Second
)

// reasonAway is the reason of events that tell what happened while there was no connection to the daemon.
const reasonAway = "while libvirt was away"

// startKeeping begins to make the line to a daemon anew whenever it is lost, until the driver closes. Machines go on
// without it; calls get hypervisor.ErrUnavailable meanwhile.
func (d *Driver) startKeeping() {
	if d.cfg.embedded() {
		return
	}
	d.ops.Add(1)
	go func() {
		defer d.ops.Done()
		d.keepLine()
	}()
}

func (d *Driver) keepLine() {
	for {
		select {
		case <-d.quit:
			return
		case <-d.lines.suspect:
		}
		if !d.lines.lost(d.lines.current()) {
			continue // it was another line's last word
		}
		_ = d.lines.drop(errHungUp) // whatever libvirt says of a dead one
		d.cfg.Logger.Warn("lost the connection to libvirt; its machines go on", "uri", d.lines.uri)
		begun := time.Now()
		if !d.redial() {
			return
		}
		d.cfg.Logger.Info("connected to libvirt again", "uri", d.lines.uri, "after", time.Since(begun))
	}
}

// redial tries until there is a line; false means that the driver closes.
func (d *Driver) redial() bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := firstRedial; ; pause = min(2*pause, longRedial) {
		select {
		case <-d.quit:
			return false
		case <-timer.C:
		}
		x, ok := d.dialUntilClosed()
		if !ok {
			return false
		}
		if x.err == nil {
			x.err = d.pickUp(x.line)
		}
		if x.err == nil {
			return true
		}
		d.lines.because(x.err)
		d.cfg.Logger.Debug("libvirt is away", "error", x.err, "retry", pause)
		timer.Reset(pause)
	}
}

// dialed is how a try to connect ended.
type dialed struct {
	line *line
	err  error
}

// dialUntilClosed is dial, which a daemon that hangs may keep for ever; ok is false when the driver closes meanwhile.
func (d *Driver) dialUntilClosed() (x dialed, ok bool) {
	done := make(chan dialed, 1)
	go func() {
		x, err := d.dial()
		done <- dialed{x, err}
	}()
	select {
	case x = <-done:
		return x, true
	case <-d.quit:
		go func() {
			if late := <-done; late.err == nil {
				_ = d.lines.shut(late.line)
			}
		}()
		return dialed{}, false
	}
}

// pickUp goes on with a new line where the one before ended.
func (d *Driver) pickUp(x *line) error {
	known, err := d.lookAgain(x.conn)
	if err == nil {
		// It takes its place among the events before those of the first call on the new line. Who hears of it may ask about
		// the machine at once, so it is told when there is a line.
		found := make(chan map[string]hypervisor.State, 1)
		defer close(found)
		select {
		case d.raw <- rawEvent{found: found, at: time.Now()}:
		case <-d.quit:
		}
		if err = d.lines.install(x); err == nil {
			found <- known
			return nil
		}
	}
	_ = d.lines.shut(x)
	return fmt.Errorf("go on after libvirt was away: %w", err)
}

// lookAgain clears away what was half made, and tells the states of all machines.
func (d *Driver) lookAgain(conn *libvirt.Connect) (map[string]hypervisor.State, error) {
	for _, name := range d.lines.takeHalf() {
		domain, err := conn.LookupDomainByName(name)
		if err == nil {
			err = d.clear(domain, name)
		}
		if err != nil && !is(err, libvirt.ERR_NO_DOMAIN) {
			return nil, fmt.Errorf("clear away the half-made domain %s: %w", name, plain(err))
		}
		d.lines.forgetHalf(name)
	}
	return d.takeOver(conn, false)
}

// clear ends and removes a domain, and lets go of it.
func (d *Driver) clear(domain *libvirt.Domain, name string) error {
	defer domain.Free() //nolint:errcheck // it cannot fail for a valid domain
	text, err := domain.GetXMLDesc(0)
	if err != nil {
		return err
	}
	n, _, _ := readNotes(text)
	return d.destroy(domain, name, n)
}

// missed returns the events that nobody heard while the line was away. last has the states of the domains as they were
// told, found as they are.
func missed(last, found map[string]hypervisor.State) map[string]hypervisor.State {
	changed := map[string]hypervisor.State{}
	for name, before := range last {
		now, there := found[name]
		switch {
		case !there:
			changed[name] = hypervisor.Gone
		case over(now) && !over(before):
			changed[name] = now
		}
	}
	for name, now := range found {
		if _, known := last[name]; !known {
			changed[name] = now
		}
	}
	return changed
}
