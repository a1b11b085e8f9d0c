package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/events"
)

var _ hypervisor.Driver = (*Driver)(nil)

// Driver runs machines through one libvirt connection.
type Driver struct {
	cfg    Config
	lines  *lines
	hub    events.Hub
	files  *fileWatch
	warm   *warmUp
	reaper *reaper    // of an embedded libvirt, else nil
	ids    keyedLocks // one Start, Fork or Kill of an id at a time
	names  *names
	pools  *pools
	serial atomic.Uint64 // numbers the files in forkDir
	// loadTimes are how long one QEMU after the other may take to load a template's state.
	loadTimes []time.Duration
	remains   remains // of killed machines

	mu     sync.Mutex
	closed bool
	ops    sync.WaitGroup // calls into libvirt that have not returned yet
	raw    chan rawEvent
	quit   chan struct{}

	spoiling sync.Mutex
	spoiled  map[string][]hypervisor.Sectors // of media, by machine
}

// Open connects to libvirt and begins to warm it up in the background (see Warm). Machines of an earlier process are
// there at once. Errors wrap hypervisor.ErrUnavailable when the host is at fault, and say what to do.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkHost(cfg); err != nil {
		return nil, err
	}
	logFile := ""
	if cfg.embedded() {
		if err := checkAccount(); err != nil {
			return nil, err
		}
		if err := prepareRoot(cfg.Root); err != nil {
			return nil, err
		}
		if err := seedCapabilities(cfg.CacheDir, cfg.Root); err != nil {
			cfg.Logger.WarnContext(ctx, "capabilities cache not used", "error", err)
		}
		logFile = filepath.Join(cfg.Root, "log", "libvirt.log")
	}
	if err := loop.acquire(logFile); err != nil {
		return nil, unavailable("start libvirt", err)
	}
	d := &Driver{
		cfg: cfg, files: newFileWatch(cfg.Logger), names: newNames(cfg.NamePrefix),
		pools: newPools(), lines: newLines(cfg), loadTimes: []time.Duration{firstLoad, stateTime},
		raw: make(chan rawEvent, rawEvents), quit: make(chan struct{}),
	}
	if err := d.connect(); err != nil {
		d.files.close()
		loop.release()
		return nil, err
	}
	first := cfg.embedded() && claimed.enter()
	if cfg.embedded() {
		d.reaper = startReaper(cfg.Root)
	}
	known, err := d.takeOver(d.lines.current().conn, first)
	if err != nil {
		return nil, errors.Join(err, d.disconnect())
	}
	d.ops.Add(1)
	go d.dispatch(known)
	d.startKeeping()
	d.warm = d.startWarmUp()
	d.startFilling()
	return d, nil
}

func (d *Driver) connect() error {
	x, err := d.dial()
	if err != nil {
		return unavailable("open libvirt", err)
	}
	return d.lines.install(x)
}

// Close lets go of libvirt once all calls have returned; machines go on. A libvirt embedded in this process keeps
// its root until the process ends: only a driver of this process can open it again before that.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.warm.cancel()
	close(d.quit)
	d.ops.Wait()
	d.hub.Close()
	if err := errors.Join(d.discard(d.pools.empty()), d.disconnect()); err != nil {
		return fmt.Errorf("close libvirt: %w", plain(err))
	}
	return nil
}

// disconnect undoes what Open did last.
func (d *Driver) disconnect() error {
	d.files.close()
	if d.cfg.embedded() {
		defer claimed.leave()
	}
	err := d.lines.drop(errClosed)
	loop.release()
	if d.reaper != nil {
		d.reaper.close()
	}
	return err
}

// begin counts a call into libvirt, so that Close waits for it.
func (d *Driver) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	d.ops.Add(1)
	return nil
}

// call runs f, which may block in libvirt, and returns early with ctx's error when ctx ends; f goes on by itself then.
func (d *Driver) call(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.begin(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer d.ops.Done()
		before := d.lines.current()
		done <- d.blame(before, f())
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onDomain runs f on the machine's domain: ErrNotFound when there is none. op names the operation in errors.
func (d *Driver) onDomain(ctx context.Context, op, id string, f func(*libvirt.Domain) error) error {
	err := d.call(ctx, func() error {
		domain, err := d.lookup(d.names.domain(id))
		if err != nil {
			return err
		}
		defer domain.Free() //nolint:errcheck // it cannot fail for a valid domain
		return f(domain)
	})
	switch {
	case err == nil:
		return nil
	case is(err, libvirt.ERR_NO_DOMAIN):
		err = hypervisor.ErrNotFound
	case is(err, libvirt.ERR_OPERATION_INVALID) && strings.Contains(err.Error(), "not running"):
		err = hypervisor.ErrNotRunning
	}
	return fmt.Errorf("%s of machine %s: %w", op, id, plain(err))
}

// Find returns a machine by id.
func (d *Driver) Find(ctx context.Context, id string) (hypervisor.Machine, error) {
	if !hypervisor.ValidID(id) {
		return nil, fmt.Errorf("find machine %q: %w", id, hypervisor.ErrNotFound)
	}
	var m hypervisor.Machine
	err := d.onDomain(ctx, "find", id, func(domain *libvirt.Domain) error {
		n, err := d.notesOf(domain)
		if err == nil {
			m = d.machine(n)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// List returns all machines, in no order; those of other users of the same daemon are left out.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Machine, error) {
	var machines []hypervisor.Machine
	err := d.call(ctx, func() error {
		domains, err := d.domains()
		if err != nil {
			return plain(err)
		}
		for i := range domains {
			defer domains[i].Free() //nolint:errcheck // it cannot fail for a valid domain
		}
		for i := range domains {
			n, err := d.notesOf(&domains[i])
			if errors.Is(err, hypervisor.ErrNotFound) || is(err, libvirt.ERR_NO_DOMAIN) {
				continue // somebody else's, or killed this moment
			}
			if err != nil {
				return plain(err)
			}
			if n.Kind != template { // which is nobody's
				machines = append(machines, d.machine(n))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	return machines, nil
}

// notesOf reads a domain's notes; ErrNotFound when it is no machine of this driver's.
func (d *Driver) notesOf(domain *libvirt.Domain) (notes, error) {
	text, err := domain.GetXMLDesc(0)
	if err != nil {
		return notes{}, err
	}
	n, _, ok := readNotes(text)
	name, err := domain.GetName()
	if err != nil {
		return notes{}, err
	}
	if !ok || name != d.names.domain(n.ID) || n.Kind == pooled {
		return notes{}, hypervisor.ErrNotFound
	}
	return n, nil
}

// Events returns the changes of all machines from now on.
func (d *Driver) Events(ctx context.Context) (<-chan hypervisor.Event, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	return d.hub.Subscribe(ctx), nil
}

// keyedLocks are locks by name, made and dropped as needed.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	sync.Mutex
	users int
}

// lock returns the function that unlocks.
func (k *keyedLocks) lock(name string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyedLock{}
	}
	l := k.locks[name]
	if l == nil {
		l = &keyedLock{}
		k.locks[name] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, name)
		}
	}
}
