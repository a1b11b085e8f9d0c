// Package controller makes the machines of one node be what the cloud asked for. It holds the connection to the
// cloud, starts and ends guests through a hypervisor.Driver, hands LBVMs their credential medium and takes it away
// again, reads milestones from the guests' consoles, and reports. It may be killed at any time: a later process
// finds the guests and goes on.
//
// Not in here: how a guest is run (node/hypervisor), its network (node/vnet), its metadata service (node/imds, whose
// source this package is), and how all of them are put together (package node).
//
// Read guest.go first, the life of one guest; then sync.go, the talk with the cloud; then medium.go.
package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/template"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// Network is what the controller needs of the guests' network (vnet.Network).
type Network interface {
	Attach(ctx context.Context, port vnet.PortConfig) error
	Detach(instanceID string)
	Expose(hostAddress, instanceID string, guestPort int) error
	Unexpose(hostAddress string)
	Forward(addr netip.AddrPort, target string)
}

// ErrRemoved means that the cloud's operator removed this node. Its guests were ended.
var ErrRemoved = errors.New("the node was removed from its cloud")

// Controller runs one node's guests.
type Controller struct {
	cfg        Config
	log        *slog.Logger
	media      *mediaStore
	files      machineFiles
	reports    reporter
	happenings happenings
	images     *images
	workers    sync.WaitGroup
	lives      sync.WaitGroup // of guests and strays, among the workers
	forwards   forwarded
	anew       chan struct{} // the connection is to be made anew
	started    time.Time

	admission *admission
	templates *template.Manager // nil when guests are not forked
	forker    hypervisor.Forker
	noForks   error // why there are no templates though guests are to be forks

	mu       sync.Mutex
	guests   map[string]*guest
	strays   map[string]hypervisor.Machine // found, but not known from a local record
	services *nodelink.Services
}

// New checks the configuration and makes the folders. Run does the work.
func New(cfg Config) (*Controller, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	files := machineFiles{dir: cfg.Dir, sockets: cfg.SocketDir, disk: cfg.Trouble.Disk}
	for _, dir := range []string{cfg.Dir, files.machines(), cfg.SocketDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make node folder: %w", err)
		}
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder needs its x bit
			return nil, fmt.Errorf("close node folder: %w", err)
		}
	}
	media, err := openMedia(cfg.MediaDir)
	if err != nil {
		return nil, err
	}
	images, err := openImages(cfg.Images)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		cfg: cfg, log: cfg.Logger, media: media, images: images,
		files:     files,
		admission: newAdmission(cfg.ColdBoots, cfg.Forks, cfg.MemoryMargin, cfg.FreeMemory),
		guests:    map[string]*guest{}, strays: map[string]hypervisor.Machine{},
		anew: make(chan struct{}, 1), started: time.Now(),
	}
	c.reports.init()
	c.openTemplates()
	return c, nil
}

// Run takes over the guests that an earlier process left, then follows the cloud's wishes until ctx ends. Guests go
// on after that. The error says why it could not begin, or why the cloud wants nothing more of this node: ErrRemoved,
// after the guests were ended, or what Config.OnRefused said. The cloud being away is no error.
func (c *Controller) Run(ctx context.Context) error {
	err := c.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to end while it began
	}
	return err
}

func (c *Controller) run(ctx context.Context) error {
	// What every guest's goroutine hangs on: it ends before Run returns.
	ctx, cancel := context.WithCancel(ctx)
	defer c.workers.Wait()
	defer c.closeTemplates()
	defer cancel()
	c.workers.Go(func() { c.media.retry(ctx, c.log) })
	events, err := c.cfg.Driver.Events(ctx)
	if err != nil {
		return fmt.Errorf("follow the hypervisor's events: %w", err)
	}
	c.workers.Go(func() { c.dispatch(ctx, events) })
	if err := c.followMonitors(ctx); err != nil {
		return err
	}
	c.workers.Go(func() { c.countFrames(ctx) })
	if err := c.takeOver(ctx); err != nil {
		return err
	}
	c.warmTemplates(ctx)
	err = c.syncLoop(ctx)
	if errors.Is(err, ErrRemoved) {
		c.endAll(ctx)
	}
	return err
}

// endAll ends every guest here, its medium with it, and returns when they are gone, or when ctx ends.
func (c *Controller) endAll(ctx context.Context) {
	c.removeOthers(ctx, nil)
	ended := make(chan struct{})
	c.workers.Go(func() {
		c.lives.Wait()
		close(ended)
	})
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// dispatch gives each event to its guest. A guest looks the state up itself, so a full mailbox loses nothing.
func (c *Controller) dispatch(ctx context.Context, events <-chan hypervisor.Event) {
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
			if g := c.guest(ev.ID); g != nil {
				c.machineChanged(&ev)
				g.hear(ev)
			}
		case <-ctx.Done():
			return
		}
	}
}

// bootTimeout is how long a guest may take to its first milestone. The driver may learn what it runs on while it
// starts, so it is asked each time.
func (c *Controller) bootTimeout() time.Duration {
	return cmp.Or(c.cfg.BootTimeout, c.cfg.Driver.Info().BootTimeout, time.Minute)
}

func (c *Controller) guest(id string) *guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guests[id]
}

// takeOver finds what an earlier process left: it empties the drives, wipes the media, and looks after each
// machine that it knows from its own records. Machines without one wait for the first snapshot.
func (c *Controller) takeOver(ctx context.Context) error {
	machines, err := c.cfg.Driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list machines: %w", err)
	}
	found := map[string]hypervisor.Machine{}
	for _, m := range machines {
		if template.IsMachine(m.ID()) {
			c.log.Info("end machine of an unfinished template", "machine", m.ID())
			killUntilGone(ctx, m, c.log)
			continue
		}
		found[m.ID()] = m
		if err := m.EjectMedium(ctx); err != nil && !errors.Is(err, hypervisor.ErrNoMedium) {
			c.log.Warn("eject left-over medium", "instance", m.ID(), "error", err)
		}
	}
	if err := c.media.wipeAll(); err != nil {
		return err
	}
	records, err := c.files.records()
	if err != nil {
		return err
	}
	for _, r := range records {
		machine := found[r.Instance.GetId()]
		delete(found, r.Instance.GetId())
		if r.Rebooting {
			c.goOn(ctx, r, machine)
			continue
		}
		if !r.Started {
			c.undoStart(ctx, r.Instance.GetId(), machine)
			continue
		}
		c.add(ctx, r, machine)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, m := range found {
		c.strays[id] = m
	}
	return nil
}

// undoStart clears away a start that a killed process did not finish. The cloud, which was not told of it, still asks
// for the instance if it wants it.
func (c *Controller) undoStart(ctx context.Context, id string, half hypervisor.Machine) {
	c.log.Info("undo unfinished start", "instance", id)
	if half != nil && !killUntilGone(ctx, half, c.log) {
		return
	}
	_ = os.Remove(c.files.console(id)) // not evidence of a guest's life
	c.files.remove(id)
}

// add begins to look after an instance. machine is nil when it is to be started, or has ended if r says that it
// was started before.
func (c *Controller) add(ctx context.Context, r record, machine hypervisor.Machine) {
	c.cfg.Trouble.GuestBegins(r.Instance)
	g := newGuest(c, r)
	c.mu.Lock()
	c.guests[g.id] = g
	c.mu.Unlock()
	c.reports.begin(g.id, c.files.console(g.id))
	if machine != nil {
		c.reports.state(g.id, stateRunning, "")
	}
	c.lives.Add(1)
	c.workers.Go(func() {
		defer c.lives.Done()
		g.run(ctx, machine)
	})
}

// forget drops an instance of which nothing is left.
func (c *Controller) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.guests, id)
	c.cfg.Trouble.GuestEnds(id)
}

// apply makes the cloud's wish known to the guests.
func (c *Controller) apply(ctx context.Context, d *nodelink.Desired) {
	if s := d.GetServices(); s != nil {
		c.mu.Lock()
		c.services = s
		c.mu.Unlock()
		c.forwards.set(c.cfg.Network, s, c.log)
	}
	wanted := map[string]bool{}
	for _, inst := range d.GetRun() {
		id := inst.GetId()
		if !hypervisor.ValidID(id) {
			c.log.Error("the cloud asks for an instance whose id is not usable", "instance", id)
			continue
		}
		wanted[id] = true
		if g := c.guest(id); g != nil {
			g.want(inst)
			continue
		}
		// A machine of that id without a record is of a start that was not finished; the new start ends it.
		c.dropStray(id)
		c.add(ctx, record{Instance: inst}, nil)
	}
	for _, id := range d.GetRemove() {
		c.remove(id)
	}
	if d.GetSnapshot() {
		c.removeOthers(ctx, wanted)
	}
	if d.GetRenewCertificate() {
		c.cfg.OnRenew()
	}
}

func (c *Controller) dropStray(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.strays, id)
}

func (c *Controller) remove(id string) {
	if g := c.guest(id); g != nil {
		g.remove()
	}
}

// removeOthers ends what runs here and is not in the snapshot.
func (c *Controller) removeOthers(ctx context.Context, wanted map[string]bool) {
	c.mu.Lock()
	var gone []*guest
	for id, g := range c.guests {
		if !wanted[id] {
			gone = append(gone, g)
		}
	}
	strays := c.strays
	c.strays = map[string]hypervisor.Machine{}
	c.mu.Unlock()
	for _, g := range gone {
		g.remove()
	}
	for id, m := range strays {
		c.lives.Add(1)
		c.workers.Go(func() {
			defer c.lives.Done()
			c.log.Info("end machine without an instance", "instance", id)
			killUntilGone(ctx, m, c.log)
		})
	}
}

func (c *Controller) currentServices() *nodelink.Services {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.services
}

// forwarded remembers where the guests' addresses of the API lead, so that a snapshot with the same services does
// not cut open connections.
type forwarded struct {
	mu      sync.Mutex
	targets map[string]string // by the guests' address
}

func (f *forwarded) set(network Network, s *nodelink.Services, log *slog.Logger) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.targets == nil {
		f.targets = map[string]string{}
	}
	for guest, target := range map[string]string{
		s.GetGuestAddress(): s.GetApiAddress(), s.GetGuestPlainAddress(): s.GetApiPlainAddress(),
	} {
		if guest == "" || target == "" || f.targets[guest] == target {
			continue
		}
		addr, err := netip.ParseAddrPort(guest)
		if err != nil {
			log.Error("the cloud's guest address is not usable", "address", guest, "error", err)
			continue
		}
		network.Forward(addr, target)
		f.targets[guest] = target
	}
}
