// Package node puts a hypervisor host together: its identity (enrolled with the cloud by a one-time token), the
// guests' network, their metadata service, and the controller that runs them on a hypervisor.Driver. What each of
// these does is in the packages below this one; begin with node/controller.
package node

import (
	"context"
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
	"time"

	"google.golang.org/grpc"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/controller"
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
	// Cores is what it offers, and how many guests may boot at once; default the host's.
	Cores int
	// Guests is how guests come to life; default GuestsCold. With GuestsFork a driver that cannot fork boots them cold.
	Guests GuestMode
	// Pooled is how many forks of each image's default shape are kept ready, paused, for the next guests; default none.
	Pooled int
	// TemplateDir keeps the templates of forks, shared by all nodes of a user; default cloudtwin/templates in the user's
	// cache folder.
	TemplateDir string
	// MediumLife is the longest time that a credential medium exists; default 120 s.
	MediumLife time.Duration
	// Heartbeat is the pause between reports when nothing happens; default 5 s.
	Heartbeat time.Duration
	// HandOver and Listen are for many nodes in one process: see vnet.Config. Nil means the kernel's connections.
	HandOver func(target string) func(conn net.Conn)
	Listen   func(ctx context.Context, network, address string) (net.Listener, error)
	Logger   *slog.Logger // default: silence
}

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
	conn       *grpc.ClientConn
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
	identity, err := loadOrEnrol(ctx, cfg)
	if err != nil {
		return nil, err
	}
	n := &Node{id: identity.id, done: make(chan struct{})}
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
	}); err != nil {
		return nil, fmt.Errorf("make the guests' network: %w", err)
	}
	if n.conn, err = nodelink.Dial(cfg.CloudAddress, identity.tls()); err != nil {
		return nil, err
	}
	templates, err := templateDir(cfg)
	if err != nil {
		return nil, err
	}
	n.controller, err = controller.New(controller.Config{
		NodeID: identity.id, Key: identity.key, Driver: cfg.Driver, Network: n.network,
		Cloud: nodelink.NewNodeLinkClient(n.conn), Images: cfg.Images, Dir: cfg.Dir, SocketDir: n.run.sockets,
		MediaDir: n.run.media, Status: statusOf(cfg), ColdBoots: cfg.Cores, MediumLife: cfg.MediumLife,
		Heartbeat: cfg.Heartbeat, Guests: cfg.Guests, TemplateDir: templates, Pooled: cfg.Pooled, FreeMemory: freeMemory(cfg),
		Logger: cfg.Logger,
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
	go func() {
		defer close(n.done)
		n.err = n.controller.Run(runCtx)
	}()
	return n, nil
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

func (n *Node) release() {
	if n.network != nil {
		_ = n.network.Close()
	}
	if n.conn != nil {
		_ = n.conn.Close()
	}
	if n.run != nil {
		n.run.close()
	}
}

// statusOf returns what tells the node's capacity.
func statusOf(cfg Config) func() *nodelink.NodeStatus {
	return func() *nodelink.NodeStatus {
		// Asked each time: a driver knows its accelerator only once it has proved it.
		info := cfg.Driver.Info()
		total, free := offered(cfg)
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
func freeMemory(cfg Config) func() (int, bool) {
	if cfg.Guests == GuestsSim {
		return nil
	}
	return func() (int, bool) {
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
