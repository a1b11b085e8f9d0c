package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// NodeConfig of a node. Layout, Images, ID and Cloud are required.
type NodeConfig struct {
	Layout        Layout
	Images        string
	ID            string
	Cloud         string // host:port
	Token         string // for the first time
	HypervisorURI string
	Guests        Guests
	// MemoryMB and Cores are what the node offers to guests; zero means what this machine has.
	MemoryMB, Cores int
	// MediumLife is the longest time that a credential medium exists; zero means 120 s.
	MediumLife time.Duration
	// AloneInProcess says that there is nothing but the node in this process, so that a fault which kills the node may
	// kill the process.
	AloneInProcess bool
	// OnLink is told when the connection to the cloud is made (nil), and once when it is lost or cannot be made.
	OnLink func(err error)
}

// Node is a node in this process with the driver that runs its guests.
type Node struct {
	cfg  NodeConfig
	lock *flock.Flock // nil when the state folder is a Twin's
	done chan struct{}
	err  error // why it stopped by itself; valid once done is closed

	working sync.WaitGroup
	closing context.CancelFunc
	life    context.Context //nolint:containedctx // ends when the node is closed

	mu     sync.Mutex
	node   *node.Node
	driver hypervisor.Driver
	killed bool // it is down, and will be started again
}

// StartNode takes the state folder and starts a node in it.
func StartNode(ctx context.Context, cfg NodeConfig) (*Node, error) {
	lock, err := acquire(cfg.Layout)
	if err != nil {
		return nil, err
	}
	n, err := startNode(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	n.lock = lock
	return n, nil
}

// startNode starts a node in a folder that is locked already.
func startNode(ctx context.Context, cfg NodeConfig) (*Node, error) {
	n := &Node{cfg: cfg, done: make(chan struct{})}
	n.life, n.closing = context.WithCancel(context.Background())
	if err := n.start(ctx); err != nil {
		n.closing()
		return nil, err
	}
	return n, nil
}

// start opens the driver and starts the node.
func (n *Node) start(ctx context.Context) error {
	cfg := n.cfg
	images, err := imagesFor(cfg.Guests.Mode, cfg.Layout, cfg.Images)
	if err != nil {
		return err
	}
	originals, err := originalImages(cfg.Images)
	if err != nil {
		return err
	}
	driver, err := openDriver(ctx, cfg)
	if err != nil {
		return err
	}
	inner, err := node.Start(ctx, node.Config{ID: cfg.ID, Dir: cfg.Layout.Node(), CloudAddress: cfg.Cloud,
		Token: cfg.Token, Images: images, Driver: driver, RunDir: cfg.Layout.Media(),
		Guests: cmp.Or(cfg.Guests.Mode, DefaultGuests), Pooled: cfg.Guests.Pool, Capture: cfg.Guests.Capture,
		Displays:    cfg.Guests.Displays,
		TemplateDir: cmp.Or(cfg.Guests.Templates, Templates()), OnLink: cfg.OnLink,
		MemoryMB: cfg.MemoryMB, Cores: cfg.Cores, MediumLife: cfg.MediumLife,
		Untemplated: originals, Kill: n.killer(), Logger: slog.Default()})
	if err != nil {
		return errors.Join(err, driver.Close())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.node, n.driver, n.killed = inner, driver, false
	n.working.Go(func() { n.watch(inner) })
	return nil
}

// killer is what a fault that kills the node does. A node in a process of its own is killed with that, and nobody
// starts it again; one within 'cloudtwin up' must not take the cloud with it.
func (n *Node) killer() func(down time.Duration) {
	if n.cfg.AloneInProcess {
		return nil
	}
	return func(down time.Duration) { n.working.Go(func() { n.restart(down) }) }
}

// restart ends the node as a killed process ends, and starts it again after a time.
func (n *Node) restart(down time.Duration) {
	err := n.Kill()
	if errors.Is(err, errKilled) {
		return
	}
	slog.Warn("a fault killed the node", "node", n.cfg.ID, "down", down)
	if err == nil {
		timer := time.NewTimer(down)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-n.life.Done():
			return
		}
		err = n.Revive(n.life)
	}
	if err != nil && n.life.Err() == nil {
		n.stopped(fmt.Errorf("start the node again that a fault killed: %w", err))
	}
}

// watch waits for the node to stop by itself.
func (n *Node) watch(inner *node.Node) {
	<-inner.Done()
	n.mu.Lock()
	meant := n.killed || n.life.Err() != nil
	n.mu.Unlock()
	if !meant {
		n.stopped(inner.Err())
	}
}

func (n *Node) stopped(err error) {
	n.err = err
	close(n.done)
}

// Network is the guests' network, for captures.
func (n *Node) Network() *vnet.Network { return n.present().Network() }

func (n *Node) present() *node.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node
}

// Done is closed when the node has stopped by itself.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is why it did; nil while it runs.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// Close ends the node. Its guests go on.
func (n *Node) Close() error { return n.close(false) }

// killTimeout bounds the end of all guests through the driver.
const killTimeout = 30 * time.Second

// close ends the node and, if they are not to go on, its guests through the driver.
func (n *Node) close(endGuests bool) error {
	n.mu.Lock()
	n.closing()
	inner, driver, killed := n.node, n.driver, n.killed
	n.mu.Unlock()
	errs := []error{inner.Close()}
	n.working.Wait()
	if present := n.present(); present != inner { // it had just come back
		inner, driver, killed = present, n.driver, false
		errs = append(errs, inner.Close())
	}
	if killed {
		return errors.Join(append(errs, n.unlock())...)
	}
	if endGuests {
		errs = append(errs, endAll(driver))
	}
	return errors.Join(append(errs, driver.Close(), n.unlock())...)
}

func (n *Node) unlock() error {
	if n.lock == nil {
		return nil
	}
	return n.lock.Close()
}

// endAll ends all guests of a driver.
func endAll(driver hypervisor.Driver) error {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	machines, err := driver.List(ctx)
	errs := []error{err}
	for _, m := range machines {
		errs = append(errs, m.Kill(ctx))
	}
	return errors.Join(errs...)
}
