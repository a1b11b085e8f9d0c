// Package node puts a hypervisor host together: its identity (enrolled with the cloud by a one-time token), the
// guests' network, their metadata service, and the controller that runs them on a hypervisor.Driver. What each of
// these does is in the packages below this one; begin with node/controller.
package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/controller"
	"github.com/cloudtwin/cloudtwin/node/fault"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/imds"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// Config of a Node. Dir, CloudAddress, Images and Driver are required; Token too, until the node is enrolled.
type Config struct {
	// ID names the node in the cloud; default the name in its NODECERT, or the host's name before it has one.
	ID string
	// Dir is the node's state, mode 0700: NODEPK, NODECERT, machines. One process at a time.
	Dir string
	// CloudAddress is nodelink's host:port.
	CloudAddress string
	// Token enrols the node when Dir holds no NODECERT.
	Token string
	// Images holds a folder per guest image.
	Images string
	// Driver runs the guests. It stays the caller's, to be closed after Close.
	Driver hypervisor.Driver
	// RunDir is a memory-backed folder for media; default one of this node's own under XDG_RUNTIME_DIR or /dev/shm.
	RunDir string
	// MemoryMB is what the node offers to guests; default nine tenths of the host's memory.
	MemoryMB int
	// Cores is what it offers, and what starts of guests may take at once; default the host's.
	Cores int
	// Guests is how guests come to life; default GuestsCold. With GuestsFork a driver that cannot fork boots them cold.
	Guests GuestMode
	// Pooled is how many forks of each image's default shape are kept ready, paused, for the next guests; default none.
	Pooled int
	// Capture keeps the headers of each guest's latest frames in its folder, at most 4 MB of them; default not.
	Capture bool
	// TemplateDir keeps the templates of forks, shared by all nodes of a user; default cloudtwin/templates in the user's
	// cache folder.
	TemplateDir string
	// Untemplated names images whose guests know nothing of templates, which are those of delivery profile 1.
	Untemplated []string
	// Displays names images whose guests get a display.
	Displays []string
	// MediumLife is the longest time that a credential medium exists; default 120 s.
	MediumLife time.Duration
	// Heartbeat is the pause between reports when nothing happens; default 5 s.
	Heartbeat time.Duration
	// HandOver and Listen are for many nodes in one process: see vnet.Config. Nil means the kernel's connections.
	HandOver func(target string) func(conn net.Conn)
	Listen   func(ctx context.Context, network, address string) (net.Listener, error)
	// OnLink is told when the connection to the cloud is made (nil), and once when it is lost or cannot be made; from any
	// goroutine. Default: nobody.
	OnLink func(err error)
	// Kill has a fault that kills the node happen, and starts the node again after a time; it must not wait for that. See
	// Abandon. Nil: the process is killed.
	Kill   func(down time.Duration)
	Logger *slog.Logger // default: silence
}

// ErrRemoved means that the cloud's operator removed the node. Its guests were ended, and its identity is gone.
var ErrRemoved = controller.ErrRemoved

// GuestMode is how a node's guests come to life.
type GuestMode = controller.GuestMode

// The modes; package controller says what they are.
const (
	GuestsCold = controller.GuestsCold
	GuestsFork = controller.GuestsFork
	GuestsSim  = controller.GuestsSim
)

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	for _, p := range []struct{ name, value string }{
		{"Dir", c.Dir}, {"CloudAddress", c.CloudAddress}, {"Images", c.Images},
	} {
		if p.value == "" {
			errs = append(errs, fmt.Errorf("node: %s is required", p.name))
		}
	}
	if c.Driver == nil {
		errs = append(errs, errors.New("node: Driver is required"))
	}
	if c.ID != "" {
		if err := nodelink.CheckNodeID(c.ID); err != nil {
			errs = append(errs, fmt.Errorf("node: %w", err))
		}
	}
	if c.MemoryMB < 0 || c.Cores < 0 || c.Pooled < 0 || c.MediumLife < 0 || c.Heartbeat < 0 {
		errs = append(errs, errors.New("node: MemoryMB, Cores, Pooled, MediumLife and Heartbeat must not be negative"))
	}
	return errors.Join(errs...)
}

// metadataAddress is where guests find their metadata (EC2 user guide, instance metadata).
func metadataAddress() netip.AddrPort { return netip.MustParseAddrPort("169.254.169.254:80") }

// Node is a running node.
type Node struct {
	id         string
	network    *vnet.Network
	controller *controller.Controller
	trouble    *fault.Node
	screens    screens
	abandoned  atomic.Bool
	ring       *keyring
	renewer    *renewer
	door       *door
	run        *runDir
	unlock     func()
	cancel     context.CancelFunc
	done       chan struct{}
	err        error // of the controller; valid once done is closed
	once       sync.Once
}

// Start brings a node up. It waits for the cloud only when the node has to enrol first; after that the cloud may be
// away. ctx bounds the start; Close ends the node. Guests that an earlier process left go on under this one.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Cores == 0 {
		cfg.Cores = runtime.NumCPU()
	}
	if cfg.OnLink == nil {
		cfg.OnLink = func(error) {}
	}
	unlock, err := lock(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n, err := start(ctx, cfg)
	if err != nil {
		unlock()
		return nil, err
	}
	n.unlock = unlock
	return n, nil
}

func start(ctx context.Context, cfg Config) (_ *Node, err error) {
	ring, err := loadOrEnrol(ctx, cfg)
	if err != nil {
		return nil, err
	}
	identity, _ := ring.now()
	n := &Node{id: identity.id, ring: ring, done: make(chan struct{})}
	defer func() {
		if err != nil {
			n.release()
		}
	}()
	if n.run, err = openRunDir(cfg); err != nil {
		return nil, err
	}
	if n.network, err = vnet.New(vnet.Config{
		HandOver: cfg.HandOver, Listen: cfg.Listen, Logger: cfg.Logger,
		// Called for guests alone, which the controller plugs in.
		Dropped: func(id string, reasons map[string]uint64) { n.controller.FramesDropped(id, reasons) },
	}); err != nil {
		return nil, fmt.Errorf("make the guests' network: %w", err)
	}
	if n.door, err = openDoor(cfg.CloudAddress, identity); err != nil {
		return nil, err
	}
	n.renewer = n.newRenewer(cfg.Logger)
	n.trouble = fault.New(fault.Config{NodeID: identity.id, Driver: cfg.Driver, Network: n.network, Kill: cfg.Kill,
		Logger: cfg.Logger})
	n.screens = screens{driver: cfg.Driver, gate: n.trouble.Gate, log: cfg.Logger}
	templates, err := templateDir(cfg)
	if err != nil {
		return nil, err
	}
	n.controller, err = controller.New(controller.Config{
		NodeID: identity.id, Keys: ring.keys, Driver: cfg.Driver, Network: n.network,
		Cloud: n.door, Images: cfg.Images, Dir: cfg.Dir, SocketDir: n.run.sockets,
		MediaDir: n.run.media, Status: n.statusOf(cfg), Trouble: n.trouble, Abandon: n.abandoned.Load,
		Cores: cfg.Cores, BootTurn: bootTurn(cfg, identity.id), MediumLife: cfg.MediumLife,
		Heartbeat: cfg.Heartbeat, Guests: cfg.Guests, TemplateDir: templates, Pooled: cfg.Pooled,
		Capture: cfg.Capture, FreeMemory: n.freeMemory(cfg),
		Untemplated: cfg.Untemplated, Displays: cfg.Displays,
		OnLink: n.onLink(cfg), OnRenew: n.renewer.wake, OnRefused: n.renewer.refused, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	if err := n.serveMetadata(identity, cfg.Logger); err != nil {
		return nil, err
	}
	// The node outlives the call that starts it; Close ends it.
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	go n.work(runCtx)
	return n, nil
}

// work runs the node until ctx ends or the cloud wants nothing more of it.
func (n *Node) work(ctx context.Context) {
	defer close(n.done)
	renewing, stop := context.WithCancel(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { n.renewer.run(renewing) })
	renewal.Go(func() { n.trouble.Follow(renewing, n.door) })
	renewal.Go(func() { n.screens.follow(renewing, n.door) })
	n.err = n.controller.Run(ctx)
	stop()
	renewal.Wait()
	if errors.Is(n.err, ErrRemoved) {
		n.err = errors.Join(n.err, n.ring.forget(n.err.Error()))
	}
}

// onLink tells of the connection to the cloud, and why it cannot be made if that is this node's own certificate.
func (n *Node) onLink(cfg Config) func(error) {
	return func(err error) {
		if present, _ := n.ring.now(); err != nil {
			if expired := present.check("", time.Now()); expired != nil {
				err = fmt.Errorf("%w: %w", expired, err)
			}
		}
		cfg.OnLink(err)
	}
}

// newRenewer returns what renews the node's NODECERT over its own door.
func (n *Node) newRenewer(log *slog.Logger) *renewer {
	return &renewer{
		ring: n.ring, asked: make(chan struct{}, 1), log: log,
		needs: func(key *ecdsa.PrivateKey) bool { return n.controller.Needs(key) },
		ask: func(ctx context.Context, csrDER []byte) ([]byte, error) {
			answer, err := n.door.RenewCertificate(ctx, &nodelink.RenewCertificateRequest{CsrDer: csrDER})
			return answer.GetNodeCertPem(), err
		},
		show: func(ctx context.Context, next *identity, csrDER []byte) (func(), error) {
			p, err := n.door.open(next)
			if err != nil {
				return nil, err
			}
			if _, err := p.client.RenewCertificate(ctx, &nodelink.RenewCertificateRequest{CsrDer: csrDER}); err != nil {
				return nil, errors.Join(err, p.conn.Close())
			}
			return func() {
				n.door.change(p)
				n.controller.Reconnect()
			}, nil
		},
	}
}

// serveMetadata answers guests at the metadata address. The key of their session tokens follows from NODEPK, so that
// tokens outlive this process as the guests do.
func (n *Node) serveMetadata(i *identity, log *slog.Logger) error {
	secret, err := i.key.Bytes()
	if err != nil {
		return fmt.Errorf("make the metadata service: %w", err)
	}
	defer clear(secret)
	key, err := hkdf.Key(sha256.New, secret, nil, "cloudtwin metadata session tokens", 32)
	if err != nil {
		return fmt.Errorf("make the metadata service: %w", err)
	}
	n.network.HandleHTTP(metadataAddress(), imds.New(imds.Config{
		Source: n.controller, InstanceFrom: vnet.InstanceFrom, SetHopLimit: vnet.SetHopLimit, TokenKey: key, Logger: log,
		Asked: n.controller.MetadataAsked, Clock: n.trouble.Now,
	}))
	return nil
}

// ID returns the node's name in the cloud.
func (n *Node) ID() string { return n.id }

// Network returns the guests' network, for captures and counters.
func (n *Node) Network() *vnet.Network { return n.network }

// Done is closed when the node has stopped, by Close or by a fault; then Err says why.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node stopped by itself; nil while it runs and after Close.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// Close ends the node's process side. Its guests go on, and the next Start on the same folder finds them. Their
// media do not: they are wiped. Closing twice is harmless.
func (n *Node) Close() error {
	n.once.Do(func() {
		n.cancel()
		<-n.done
		n.release()
		n.unlock()
	})
	return n.err
}

// Abandon ends the node as a killed process ends: at once, and with its media left where they are. The next Start on
// the folder wipes them.
func (n *Node) Abandon() error {
	n.abandoned.Store(true)
	n.once.Do(func() {
		n.door.sever()
		n.cancel()
		<-n.done
		n.release()
		n.unlock()
	})
	return n.err
}

func (n *Node) release() {
	if n.network != nil {
		_ = n.network.Close()
	}
	if n.door != nil {
		n.door.close()
	}
	if n.run != nil {
		n.run.close()
	}
}

// statusOf returns what tells the node's capacity.
func (n *Node) statusOf(cfg Config) func() *nodelink.NodeStatus {
	return func() *nodelink.NodeStatus {
		// Asked each time: a driver knows its accelerator only once it has proved it.
		info := cfg.Driver.Info()
		total, free := offered(cfg)
		if n.trouble.OutOfMemory() {
			free = 0
		}
		return &nodelink.NodeStatus{
			MemoryMbTotal: total, MemoryMbFree: min(free, total), Cores: uint32(cfg.Cores),
			Hypervisor: info.Driver + " " + info.Version, Accelerator: info.Accelerator,
		}
	}
}

// offered is the memory that the node has for guests, and what of it the host has free, in MB.
func offered(cfg Config) (total, free uint64) {
	if cfg.Guests == GuestsSim && cfg.MemoryMB > 0 {
		return uint64(cfg.MemoryMB), uint64(cfg.MemoryMB) // the host's word is of other things, and many nodes share it
	}
	total, free = hostMemoryMB()
	if cfg.MemoryMB > 0 {
		total = uint64(cfg.MemoryMB)
	} else {
		total = total / 10 * 9
	}
	if cfg.Guests == GuestsSim {
		free = total
	}
	return total, free
}

// freeMemory tells a start what it may take. Simulated guests take next to nothing, and many nodes may share a process.
func (n *Node) freeMemory(cfg Config) func() (int, bool) {
	return func() (int, bool) {
		if n.trouble.OutOfMemory() {
			return 0, true
		}
		if cfg.Guests == GuestsSim {
			return 0, false
		}
		total, free := hostMemoryMB()
		return int(free), total > 0
	}
}

// templateDir is where templates lie by default.
func templateDir(cfg Config) (string, error) {
	if cfg.TemplateDir != "" || cfg.Guests != GuestsFork {
		return cfg.TemplateDir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of templates: %w", err)
	}
	return filepath.Join(cache, "cloudtwin", "templates"), nil
}
