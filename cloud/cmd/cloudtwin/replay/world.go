package replay

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/node"
)

// firstNode is the node that a cloud starts in its own process.
const firstNode = "node-1"

// nodeTimeout bounds a node's way into the cloud.
const nodeTimeout = 30 * time.Second

// world is the cloud of a replay with its nodes, all in this process.
type world struct {
	cfg    Config
	twin   *local.Twin
	nodes  map[string]*local.Node // but one in the cloud's process
	config local.Config           // the cloud's
	// keys are the access keys that the cloud begins with, by their ids.
	keys      map[string]credential
	layouts   []local.Layout
	live      *live
	following sync.WaitGroup
	unfollow  context.CancelFunc
}

// startWorld starts a cloud like that of the recording, with the nodes that it began with. close must be called
// whatever the outcome.
func startWorld(ctx context.Context, cfg Config, r *Recording) (*world, error) {
	w := &world{cfg: cfg, nodes: map[string]*local.Node{}, keys: map[string]credential{}, live: newLive()}
	c := local.Config{Layout: cfg.Layout, Images: cfg.Images, Guests: cfg.Guests, NoNode: true, Fresh: true}
	if err := setUp(&c, r); err != nil {
		return w, err
	}
	if r.Before != nil {
		if err := w.load(ctx, r.Before); err != nil {
			return w, err
		}
		c.Fresh = false
	}
	apart := r.restarts() // then the first node may have to end without the cloud, or the cloud without it
	var rest []Node
	for _, n := range r.Nodes {
		if n.ID == firstNode && !apart {
			c.NoNode = false
			c.MemoryMB, c.Cores = w.size(n)
			continue
		}
		rest = append(rest, n)
	}
	w.config = c
	if err := w.start(ctx); err != nil {
		return w, err
	}
	if !c.NoNode {
		if err := w.await(ctx, firstNode); err != nil {
			return w, err
		}
	}
	for _, n := range rest {
		if err := w.join(ctx, n); err != nil {
			return w, err
		}
	}
	return w, nil
}

// start starts the cloud and follows what happens in it.
func (w *world) start(ctx context.Context) error {
	var err error
	if w.twin, err = local.Start(ctx, w.config); err != nil {
		return fmt.Errorf("start the cloud of the replay: %w", err)
	}
	var following context.Context
	following, w.unfollow = context.WithCancel(context.Background())
	events := w.twin.Follow(following)
	w.following.Go(func() { w.live.follow(events) })
	return nil
}

// setUp gives the cloud what that of the recording was given.
func setUp(c *local.Config, r *Recording) error {
	a := r.Setup
	var err error
	read := func(name string, into func(string) error) {
		if a[name] != "" && err == nil {
			if e := into(a[name]); e != nil {
				err = fmt.Errorf("%w: %s of its cloud: %w", ErrRecording, name, e)
			}
		}
	}
	number := func(into *int) func(string) error {
		return func(text string) (err error) { *into, err = strconv.Atoi(text); return err }
	}
	length := func(into *time.Duration) func(string) error {
		return func(text string) (err error) { *into, err = time.ParseDuration(text); return err }
	}
	read("replicas", number(&c.Replicas))
	read("lbcertLife", length(&c.LBCertLife))
	read("terminatedRetention", length(&c.TerminatedRetention))
	return err
}

// size is what a node offers. Simulated guests cost next to nothing, so that it may be what the recorded one had;
// others need what they are given.
func (w *world) size(n Node) (memoryMB, cores int) {
	if w.cfg.Guests.Mode != node.GuestsSim {
		return 0, 0
	}
	return n.MemoryMB, n.Cores
}

// join starts a node and returns when it takes guests.
func (w *world) join(ctx context.Context, n Node) error {
	token, err := w.twin.NewNodeToken(ctx)
	if err != nil {
		return fmt.Errorf("make a token for %s: %w", n.ID, err)
	}
	layout := local.Layout(filepath.Join(string(w.cfg.Layout), "nodes", n.ID))
	if err := local.Prepare(layout); err != nil {
		return fmt.Errorf("start %s: %w", n.ID, err)
	}
	w.layouts = append(w.layouts, layout)
	c := local.NodeConfig{Layout: layout, Images: w.cfg.Images, ID: n.ID, Cloud: w.twin.NodeLink(), Token: token,
		Guests: w.cfg.Guests}
	c.MemoryMB, c.Cores = w.size(n)
	started, err := local.StartNode(ctx, c)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.ID, err)
	}
	w.nodes[n.ID] = started
	return w.await(ctx, n.ID)
}

// await returns when a node is up and follows what faults there are to be.
func (w *world) await(ctx context.Context, id string) error {
	up, err := w.live.await(ctx, nodeTimeout, func() bool { return w.live.nodes[id] })
	if err == nil && !up {
		err = errNodeAway
	}
	if err == nil {
		err = w.twin.AwaitFaultNode(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w", id, err)
	}
	return nil
}

// errNodeAway means that a node of the replay did not come up.
var errNodeAway = errors.New("it did not come up in " + nodeTimeout.String())

// rootARN is who the root key of the first account belongs to.
const rootARN = "arn:aws:iam::" + cloud.UserAccountID + ":root"

// caller returns a client of the cloud.
func (w *world) caller(ctx context.Context) (*caller, error) {
	keys, err := w.twin.Credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the root key of the replay's cloud: %w", err)
	}
	status, err := w.twin.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask what runs: %w", err)
	}
	return &caller{endpoint: status.Endpoint, region: status.Region, rootARN: rootARN, keys: w.keys,
		root: credential{id: keys.AccessKeyID, secret: keys.SecretAccessKey}, http: newHTTPClient()}, nil
}

// lookAway follows the cloud's events no longer.
func (w *world) lookAway() {
	if w.unfollow != nil {
		w.unfollow()
		w.following.Wait()
	}
}

// close ends nodes, guests and cloud and removes their state.
func (w *world) close() error {
	w.lookAway()
	var errs []error
	for _, n := range w.nodes {
		errs = append(errs, n.Close())
	}
	for _, l := range w.layouts {
		errs = append(errs, local.Remove(context.Background(), l))
	}
	if w.twin != nil {
		errs = append(errs, w.twin.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end the replay's cloud: %w", err)
	}
	return nil
}
