package libvirt

import (
	"errors"
	"fmt"
	"sync"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// How a daemon that hangs is told from one that is there: it is asked for a sign of life, and the connection ends when
// it owes so many.
const (
	lifeInterval = 5 // s
	lifeMisses   = 6
)

// errHungUp is why there is no line right after it was lost.
var errHungUp = errors.New("the connection was lost")

// line is one connection to libvirt, with what hangs on it.
type line struct {
	conn      *libvirt.Connect
	lifecycle int                   // libvirt's number of our callback
	watchers  map[*monitorWatch]int // and those of who follows the monitors' events
	told      bool                  // libvirt tells of its end
	users     int                   // who use it now
	dropped   bool                  // it is the driver's no more: its last user closes it
}

// lines is the driver's line to libvirt. One to a libvirt in this process holds as long as the driver; one to a daemon
// ends when the daemon does, and is made anew (reconnect.go).
type lines struct {
	uri     string
	suspect chan struct{} // holds a token when the line may have ended
	open    func() (*libvirt.Connect, error)
	alive   func(*libvirt.Connect) bool

	following sync.Mutex // who follows the monitors' events, on whatever line
	monitors  map[*monitorWatch]struct{}

	mu   sync.Mutex
	now  *line               // nil while there is none
	why  error               // why there is none
	half map[string]struct{} // domains whose making was broken off with the line
}

func newLines(cfg Config) *lines {
	l := &lines{
		uri: cfg.uri(), suspect: make(chan struct{}, 1), why: errClosed,
		monitors: map[*monitorWatch]struct{}{}, half: map[string]struct{}{},
		open:  func() (*libvirt.Connect, error) { return libvirt.NewConnect(cfg.uri()) },
		alive: func(conn *libvirt.Connect) bool { ok, err := conn.IsAlive(); return ok && err == nil },
	}
	if cfg.embedded() {
		l.open = func() (conn *libvirt.Connect, err error) {
			err = onOneCPU(func() (err error) {
				conn, err = claimed.connect(cfg.uri())
				return err
			})
			return conn, err
		}
	}
	return l
}

// dial makes a line on which the driver's events come. Nobody uses it before install.
func (d *Driver) dial() (*line, error) {
	conn, err := d.lines.open()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.lines.uri, plain(err))
	}
	x := &line{conn: conn, watchers: map[*monitorWatch]int{}}
	if x.lifecycle, err = conn.DomainEventLifecycleRegister(nil, d.onLifecycle); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to libvirt's events: %w", plain(err)), claimed.release(conn))
	}
	if d.cfg.embedded() {
		return x, nil
	}
	// Called on libvirt's event loop, or within a call that notices.
	err = conn.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) { nudge(d.lines.suspect) })
	if x.told = err == nil; err == nil {
		err = conn.SetKeepAlive(lifeInterval, lifeMisses)
	}
	if err != nil { // calls that fail still tell
		d.cfg.Logger.Debug("the end of the connection to libvirt is noticed late", "error", plain(err))
	}
	return x, nil
}

// install makes x the driver's line, on which the monitors' events come too.
func (l *lines) install(x *line) error {
	l.following.Lock()
	defer l.following.Unlock()
	for w := range l.monitors {
		if err := x.watch(w); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now, l.why = x, nil
	return nil
}

// watch begins to hand the monitors' events over to w.
func (x *line) watch(w *monitorWatch) error {
	// The callback is called on libvirt's event loop, which must not be kept.
	id, err := x.conn.DomainQemuMonitorEventRegister(nil, ".*", w.take,
		libvirt.CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX)
	if err != nil {
		return fmt.Errorf("subscribe to the monitors' events: %w", plain(err))
	}
	x.watchers[w] = id
	return nil
}

// borrow returns the line, to be given back; hypervisor.ErrUnavailable, wrapped, while there is none.
func (l *lines) borrow() (*line, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		return nil, fmt.Errorf("%w: no connection to libvirt at %s, which is tried again and again: %w",
			hypervisor.ErrUnavailable, l.uri, l.why)
	}
	l.now.users++
	return l.now, nil
}

func (l *lines) giveBack(x *line) {
	l.mu.Lock()
	x.users--
	unused := x.dropped && x.users == 0
	l.mu.Unlock()
	if unused {
		_ = l.shut(x)
	}
}

// current is the line of this moment, only to be asked about later; nil while there is none.
func (l *lines) current() *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// lost says whether x, or the present line when x is nil, is not the driver's line any more, or is dead.
func (l *lines) lost(x *line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now == nil || (x != nil && x != l.now) || !l.alive(l.now.conn)
}

// drop leaves the driver without a line. Calls that use it go on, and fail if it is dead.
func (l *lines) drop(why error) error {
	l.mu.Lock()
	x := l.now
	l.now, l.why = nil, why
	unused := x != nil && x.users == 0
	if x != nil {
		x.dropped = true
	}
	l.mu.Unlock()
	if unused {
		return l.shut(x)
	}
	return nil
}

// because says why there is no line.
func (l *lines) because(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = why
}

// shut closes a line that nobody uses. What libvirt has against closing a dead one is of no interest.
func (l *lines) shut(x *line) error {
	dead := !l.alive(x.conn)
	var errs []error
	for _, id := range x.watchers {
		errs = append(errs, x.conn.DomainQemuEventDeregister(id))
	}
	errs = append(errs, x.conn.DomainEventDeregister(x.lifecycle))
	if x.told {
		errs = append(errs, x.conn.UnregisterCloseCallback())
	}
	errs = append(errs, claimed.release(x.conn))
	if dead {
		return nil
	}
	return errors.Join(errs...)
}

// halfMade notes a domain whose making failed if that may be for want of a line, so that nothing could be cleared away.
// before is the line from before it began.
func (l *lines) halfMade(before *line, name string, err error) {
	if err == nil || !l.lost(before) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.half[name] = struct{}{}
}

// takeHalf returns the domains that were noted.
func (l *lines) takeHalf() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.half {
		names = append(names, name)
	}
	return names
}

func (l *lines) forgetHalf(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.half, name)
}

// lookup finds a domain.
func (d *Driver) lookup(name string) (*libvirt.Domain, error) {
	x, err := d.lines.borrow()
	if err != nil {
		return nil, err
	}
	defer d.lines.giveBack(x)
	return x.conn.LookupDomainByName(name)
}

// defineDomain makes a domain that does not run yet.
func (d *Driver) defineDomain(text string) (*libvirt.Domain, error) {
	x, err := d.lines.borrow()
	if err != nil {
		return nil, err
	}
	defer d.lines.giveBack(x)
	return x.conn.DomainDefineXML(text)
}

// domains lists all domains, those of others too.
func (d *Driver) domains() ([]libvirt.Domain, error) {
	x, err := d.lines.borrow()
	if err != nil {
		return nil, err
	}
	defer d.lines.giveBack(x)
	return x.conn.ListAllDomains(0)
}

// blame tells what failed for want of a line from what failed otherwise. before is the line from when the call began.
func (d *Driver) blame(before *line, err error) error {
	var v libvirt.Error
	if err == nil || errors.Is(err, hypervisor.ErrUnavailable) || !errors.As(err, &v) ||
		v.Code == libvirt.ERR_NO_DOMAIN || !d.lines.lost(before) {
		return err
	}
	nudge(d.lines.suspect)
	return fmt.Errorf("%w: lost the connection to libvirt at %s: %w", hypervisor.ErrUnavailable, d.lines.uri, plain(err))
}
