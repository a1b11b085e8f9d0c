package libvirt

import (
	"context"
	"sync"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// monitorEvents is how many of the monitors' events may wait for their reader.
const monitorEvents = 1024

var _ hypervisor.MonitorWatcher = (*Driver)(nil)

// monitorWatch hands QEMU's events over to one reader.
type monitorWatch struct {
	d   *Driver
	mu  sync.Mutex
	out chan hypervisor.MonitorEvent // nil once closed
}

// MonitorEvents implements hypervisor.MonitorWatcher: libvirt passes on what QEMU says on its monitor (QMP).
func (d *Driver) MonitorEvents(ctx context.Context) (<-chan hypervisor.MonitorEvent, error) {
	if err := d.begin(); err != nil {
		return nil, err
	}
	out := make(chan hypervisor.MonitorEvent, monitorEvents)
	w := &monitorWatch{d: d, out: out}
	if err := d.lines.follow(w); err != nil {
		d.ops.Done()
		return nil, unavailable("follow the monitors", err)
	}
	go func() {
		defer d.ops.Done()
		select {
		case <-ctx.Done():
		case <-d.quit:
		}
		if err := d.lines.unfollow(w); err != nil {
			d.cfg.Logger.Warn("end the monitors' events", "error", err)
		}
		w.close()
	}()
	return out, nil
}

// follow hands the monitors' events over to w, on this line and on all that come after it.
func (l *lines) follow(w *monitorWatch) error {
	l.following.Lock()
	defer l.following.Unlock()
	l.monitors[w] = struct{}{}
	x, err := l.borrow()
	if err != nil {
		return nil //nolint:nilerr // the next line will have it
	}
	defer l.giveBack(x)
	if err := x.watch(w); err != nil && !l.lost(x) {
		delete(l.monitors, w)
		return err
	}
	return nil
}

// unfollow ends that.
func (l *lines) unfollow(w *monitorWatch) error {
	l.following.Lock()
	defer l.following.Unlock()
	delete(l.monitors, w)
	x, err := l.borrow()
	if err != nil {
		return nil //nolint:nilerr // it ended with its line
	}
	defer l.giveBack(x)
	id, watching := x.watchers[w]
	if !watching {
		return nil
	}
	delete(x.watchers, w)
	if err := x.conn.DomainQemuEventDeregister(id); err != nil && !l.lost(x) {
		return plain(err)
	}
	return nil
}

// take hands an event over if there is room for it.
func (w *monitorWatch) take(_ *libvirt.Connect, domain *libvirt.Domain, ev *libvirt.DomainQemuMonitorEvent) {
	name, err := domain.GetName()
	if err != nil {
		return
	}
	id, ours := w.d.names.machine(name)
	if !ours {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		return
	}
	select {
	case w.out <- hypervisor.MonitorEvent{ID: id, Name: ev.Event, Data: ev.Details,
		At: time.Unix(ev.Seconds, int64(ev.Micros)*int64(time.Microsecond))}:
	default:
	}
}

func (w *monitorWatch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.out)
	w.out = nil
}
