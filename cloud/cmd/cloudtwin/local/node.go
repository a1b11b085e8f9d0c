package local

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
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
}

// Node is a node in this process with the driver that runs its guests.
type Node struct {
	node   *node.Node
	driver hypervisor.Driver
	lock   *flock.Flock // nil when the state folder is a Twin's
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
	images, err := imagesFor(cfg.Guests.Mode, cfg.Layout, cfg.Images)
	if err != nil {
		return nil, err
	}
	driver, err := openDriver(ctx, cfg)
	if err != nil {
		return nil, err
	}
	n, err := node.Start(ctx, node.Config{ID: cfg.ID, Dir: cfg.Layout.Node(), CloudAddress: cfg.Cloud, Token: cfg.Token,
		Images: images, Driver: driver, RunDir: cfg.Layout.Media(), Guests: cmp.Or(cfg.Guests.Mode, DefaultGuests),
		Pooled: cfg.Guests.Pool, TemplateDir: cmp.Or(cfg.Guests.Templates, Templates()), Logger: slog.Default()})
	if err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	return &Node{node: n, driver: driver}, nil
}

// Network is the guests' network, for captures.
func (n *Node) Network() *vnet.Network { return n.node.Network() }

// Done is closed when the node has stopped by itself.
func (n *Node) Done() <-chan struct{} { return n.node.Done() }

// Close ends the node. Its guests go on.
func (n *Node) Close() error { return n.close(false) }

// killTimeout bounds the end of all guests through the driver.
const killTimeout = 30 * time.Second

// close ends the node and, if they are not to go on, its guests through the driver.
func (n *Node) close(endGuests bool) error {
	errs := []error{n.node.Close()}
	if endGuests {
		errs = append(errs, n.endGuests())
	}
	errs = append(errs, n.driver.Close())
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}

func (n *Node) endGuests() error {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	machines, err := n.driver.List(ctx)
	errs := []error{err}
	for _, m := range machines {
		errs = append(errs, m.Kill(ctx))
	}
	return errors.Join(errs...)
}
