package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/api"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
)

// Config of a Twin. Layout and Images are required.
type Config struct {
	Layout         Layout
	Images         string // folder of guest images
	APIAddress     string // host:port of the API; empty means a free port
	NodeAddress    string // host:port for nodes; empty means a free port
	StoreEndpoints []string
	HypervisorURI  string
	Replicas       int
	Guests         Guests
	// MinDeliveryProfile is the least profile of the key-delivery protocol that is answered; zero means 2, or 1 when an
	// image is registered as profile 1.
	MinDeliveryProfile int
	// RootKey names a key on a PKCS#11 token that takes the place of the root key's file; empty means the file.
	RootKey string
	// LBCertLife is how long an LBCERT is valid; zero means 365 days.
	LBCertLife time.Duration
	// LBVMOwner says in whose account load-balancer VMs run; empty means the system account.
	LBVMOwner string
	// RoleCredentialsLife is how long the credentials of an instance's role are valid; zero means 6 hours.
	RoleCredentialsLife time.Duration
	// TerminatedRetention is how long a terminated instance can still be described; zero means as long as on EC2.
	TerminatedRetention time.Duration
	// MemoryMB and Cores are what the node offers to guests; zero means what this machine has.
	MemoryMB, Cores int
	// NoNode starts no node in this process.
	NoNode bool
	// Fresh removes what an earlier process left in the folder before anything starts.
	Fresh bool
	// Keep leaves state and guests at the end.
	Keep bool
	// MediumLife is the longest time that a credential medium exists; zero means 120 s.
	MediumLife time.Duration
	// Faults are played from when the node can take guests.
	Faults *fault.Schedule
}

// Twin is a running cloud, usually with a node.
type Twin struct {
	*cloud.Cloud
	cfg      Config
	lock     *flock.Flock
	node     *Node
	stop     context.CancelFunc
	operator sync.WaitGroup
}

// nodeUpTimeout bounds the wait for the node's first report.
const nodeUpTimeout = 30 * time.Second

// nodeID is the node in this process.
const nodeID = "node-1"

// Start starts a cloud, its operator's socket, and a node; it returns when the node can take guests.
func Start(ctx context.Context, cfg Config) (*Twin, error) {
	lock, err := acquire(cfg.Layout)
	if err != nil {
		return nil, err
	}
	t := &Twin{cfg: cfg, lock: lock}
	// What an earlier process left outlives a start that fails: its state may be the only copy.
	found, err := inUse(cfg.Layout)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := t.start(ctx); err != nil {
		t.cfg.Keep = found && !cfg.Fresh
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Twin) start(ctx context.Context) error {
	cfg := t.cfg
	if cfg.Fresh {
		if err := clean(ctx, cfg.Layout); err != nil {
			return err
		}
	}
	dir, err := imagesFor(cfg.Guests.Mode, cfg.Layout, cfg.Images)
	if err != nil {
		return err
	}
	images, err := images(dir, cfg.Images)
	if err != nil {
		return err
	}
	if err := cfg.Layout.noteStore(cfg.StoreEndpoints); err != nil {
		return err
	}
	t.Cloud, err = cloud.Start(ctx, cloud.Config{
		Dir: cfg.Layout.Cloud(), Journal: cfg.Layout.Journal(), Faults: cfg.Layout.Faults(),
		StoreEndpoints: cfg.StoreEndpoints, APIAddress: cfg.APIAddress, NodeAddress: cfg.NodeAddress, Images: images,
		Replicas: cfg.Replicas, LBVMOwner: elb.Owner(cfg.LBVMOwner), RoleCredentialsLife: cfg.RoleCredentialsLife,
		LBCertLife: cfg.LBCertLife, RootKey: cfg.RootKey, UnprivilegedPorts: !MayBindLowPorts(), Logger: slog.Default(),
		MinDeliveryProfile: keydelivery.Profile(cfg.MinDeliveryProfile), TerminatedRetention: cfg.TerminatedRetention,
	})
	if err != nil {
		return err
	}
	if err := t.writeClientFiles(); err != nil {
		return fmt.Errorf("write files for clients: %w", err)
	}
	if err := t.serveOperator(); err != nil {
		return err
	}
	if cfg.NoNode {
		return t.playFaults(ctx)
	}
	token, err := t.NewNodeToken(ctx)
	if err != nil {
		return err
	}
	if t.node, err = startNode(ctx, NodeConfig{Layout: cfg.Layout, Images: cfg.Images, ID: nodeID, Cloud: t.NodeLink(),
		Token: token, HypervisorURI: cfg.HypervisorURI, MediumLife: cfg.MediumLife, Guests: cfg.Guests,
		MemoryMB: cfg.MemoryMB, Cores: cfg.Cores}); err != nil {
		return err
	}
	if err := t.awaitNode(ctx); err != nil {
		return err
	}
	return t.playFaults(ctx)
}

// playFaults begins to play the schedule that was given.
func (t *Twin) playFaults(ctx context.Context) error {
	if t.cfg.Faults == nil {
		return nil
	}
	if !t.cfg.NoNode {
		if err := t.AwaitFaultNode(ctx, nodeID); err != nil {
			return err
		}
	}
	return t.LoadFaults(ctx, *t.cfg.Faults)
}

// writeClientFiles writes what clients of the API need beside its address.
func (t *Twin) writeClientFiles() error {
	if err := os.WriteFile(t.cfg.Layout.CAFile(), t.CAPEM(), 0o600); err != nil {
		return err
	}
	files, err := api.ClientData(t.Endpoint())
	if err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.Join(t.cfg.Layout.ClientData(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (t *Twin) serveOperator() error {
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	listener, err := operator.Listen(ctx, t.cfg.Layout.OperatorSocket())
	if err != nil {
		return err
	}
	t.operator.Go(func() {
		if err := operator.Serve(ctx, listener, t); err != nil {
			slog.Error("stopped serving the operator", "error", err)
		}
	})
	return nil
}

// Status adds to the cloud's own what only this machine knows.
func (t *Twin) Status(ctx context.Context) (operator.Status, error) {
	status, err := t.Cloud.Status(ctx)
	status.StateDir, status.CAFile = string(t.cfg.Layout), t.cfg.Layout.CAFile()
	return status, err
}

// RemoveNode is the cloud's own, but for the node in this process: without it the process would end, and the cloud.
func (t *Twin) RemoveNode(ctx context.Context, id, reason string) (operator.NodeRemoval, error) {
	if !t.cfg.NoNode && id == nodeID { // which may not have joined yet
		return operator.NodeRemoval{}, &operator.Refusal{Message: "node " + id + " is that of 'cloudtwin up' itself and " +
			"ends with it; 'cloudtwin up --no-node' starts a cloud without one"}
	}
	return t.Cloud.RemoveNode(ctx, id, reason)
}

func (t *Twin) awaitNode(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nodeUpTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := t.Status(ctx)
		if err != nil {
			return err
		}
		if len(status.Nodes) > 0 && status.Nodes[0].State == "up" {
			return nil
		}
		select {
		case <-t.node.Done():
			return fmt.Errorf("the node stopped: %w", t.node.Err())
		case <-ctx.Done():
			return fmt.Errorf("wait for the node to report: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// NodeDone is closed when the node in this process has stopped by itself; it is nil when there is none.
func (t *Twin) NodeDone() <-chan struct{} {
	if t.node == nil {
		return nil
	}
	return t.node.Done()
}

// NodeErr is why the node stopped by itself.
func (t *Twin) NodeErr() error { return t.node.Err() }

// Close ends the node and the cloud and, unless they are to be kept, all guests and the state folder.
func (t *Twin) Close() error {
	var errs []error
	if t.node != nil {
		// Guests of a daemon, perhaps on another host, are not this process's to signal: only libvirt can end them.
		errs = append(errs, t.node.close(!t.cfg.Keep && t.cfg.HypervisorURI != ""))
	}
	if t.stop != nil {
		t.stop()
		t.operator.Wait()
	}
	if t.Cloud != nil {
		errs = append(errs, t.Cloud.Close())
	}
	if !t.cfg.Keep {
		errs = append(errs, remove(context.Background(), t.cfg.Layout))
	}
	return errors.Join(append(errs, t.lock.Close())...)
}

// images tells the cloud what instances can be started from.
// Simulated images lie in a folder of their own; what is registered counts for them too.
func images(dir, registrations string) ([]ec2.ImageInfo, error) {
	var list []ec2.ImageInfo
	for _, flavour := range builder.Flavours() {
		image, err := builder.Load(dir, string(flavour))
		if err != nil {
			return nil, err
		}
		registered, err := Registered(registrations, image.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, ec2.ImageInfo{Name: image.Name, Digest: image.Digest, Public: flavour == builder.Web,
			Description: "kernel " + image.Manifest.KernelRelease, DeliveryProfile: registered.DeliveryProfile})
	}
	return list, nil
}
