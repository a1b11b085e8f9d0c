package controller

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Config of a Controller. NodeID, Keys, Driver, Network, Cloud, Images, Dir, SocketDir and MediaDir are required.
type Config struct {
	NodeID string
	// Keys are the NODEPKs to which a credential may be sealed, the newest first; never empty.
	Keys    func() []*ecdsa.PrivateKey
	Driver  hypervisor.Driver
	Network Network
	Cloud   nodelink.NodeLinkClient
	// Images holds a folder per guest image: vmlinux, initramfs.img, manifest.json.
	Images string
	// Dir keeps a folder per machine; made with mode 0700.
	Dir string
	// SocketDir holds the guests' network sockets; made with mode 0700. Short enough for a socket's path.
	SocketDir string
	// MediaDir is where media are made: memory-backed (tmpfs or ramfs), mode 0700; made when missing.
	MediaDir string
	// Status tells the node's capacity; asked at every heartbeat. The controller adds the images and what a guest takes.
	// Default: no capacity.
	Status func() *nodelink.NodeStatus
	// Guests is how guests come to life; default GuestsCold.
	Guests GuestMode
	// TemplateDir keeps the templates of forks; required with GuestsFork.
	TemplateDir string
	// Untemplated names images whose guests know nothing of templates: original ones. None is made of them beforehand.
	Untemplated []string
	// Displays names images whose guests get a display. The image must bring a driver of it for anything to be seen.
	Displays []string
	// Pooled is how many forks of each image's default shape are kept ready, paused; default none.
	Pooled int
	// Capture keeps the headers of each guest's latest frames in its folder, without payloads, at most 4 MB of them.
	Capture bool
	// Cores is how many of the host's processor cores its starts may take at once; default all.
	Cores int
	// ColdBoots is how many guests may boot at once when nothing else starts; default one per core. More starve each
	// other's timer calibration without KVM.
	ColdBoots int
	// Forks is how many forks, or simulated guests, may start at once when nothing boots; default one fork per core, or
	// some simulated guests. A boot takes the place of as many of them as its part of ColdBoots is of Forks.
	Forks int
	// BootTurn waits until one more guest may boot on this host, whoever else boots guests there, and returns what gives
	// the turn on. An error that is not ctx's is logged, and the guest booted. Default: nobody else does.
	BootTurn func(ctx context.Context) (done func(), err error)
	// FreeMemory tells the host's available memory in MB; ok is false when it is not known. Default: not known.
	FreeMemory func() (mb int, ok bool)
	// MemoryMargin is how much of the host's memory no start may take, in MB; default 512.
	MemoryMargin int
	// MediumLife is the longest time that a credential medium exists; default 120 s.
	MediumLife time.Duration
	// BootTimeout is how long a guest may take to its first milestone; default what the driver says, or 60 s.
	BootTimeout time.Duration
	// Heartbeat is the pause between reports when nothing happens; default 5 s.
	Heartbeat time.Duration
	// Entropy is where the media's random seeds come from; default crypto/rand.
	Entropy io.Reader
	// OnLink is told when the connection to the cloud is made (nil), and once when it is lost or cannot be made.
	OnLink func(err error)
	// OnRenew is told when the cloud wants the node to renew its NODECERT. It must not block.
	OnRenew func()
	// OnRefused is asked what to do when the cloud refuses the NODECERT for another reason than a removal: an error ends
	// Run with it, again means that Cloud uses another one by now, and neither that it is tried again after a pause.
	OnRefused func(ctx context.Context, refused *nodelink.RefusedError) (again bool, err error)
	// Trouble is what tests have go wrong; default nothing.
	Trouble Trouble
	// Abandon, when it is true at the end of Run, leaves media in drives and on the host, as a killed process does.
	Abandon func() bool
	Logger  *slog.Logger // default: silence
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	missing := func(absent bool, name string) {
		if absent {
			errs = append(errs, fmt.Errorf("controller: %s is required", name))
		}
	}
	missing(c.Keys == nil, "Keys")
	missing(c.Driver == nil, "Driver")
	missing(c.Network == nil, "Network")
	missing(c.Cloud == nil, "Cloud")
	missing(c.Images == "", "Images")
	missing(c.Dir == "", "Dir")
	missing(c.SocketDir == "", "SocketDir")
	missing(c.MediaDir == "", "MediaDir")
	if err := nodelink.CheckNodeID(c.NodeID); err != nil {
		errs = append(errs, fmt.Errorf("controller: %w", err))
	}
	if longest := len(filepath.Join(c.SocketDir, "i-0123456789abcdef0"+socketSuffix)); longest > hypervisor.MaxSocketPath {
		errs = append(errs, fmt.Errorf("controller: SocketDir %s is %d bytes too long for a socket's path",
			c.SocketDir, longest-hypervisor.MaxSocketPath))
	}
	if c.Cores < 0 || c.ColdBoots < 0 || c.MediumLife < 0 || c.BootTimeout < 0 || c.Heartbeat < 0 {
		errs = append(errs, errors.New("controller: Cores, ColdBoots and times must not be negative"))
	}
	if c.Pooled < 0 || c.Forks < 0 || c.MemoryMargin < 0 {
		errs = append(errs, errors.New("controller: Pooled, Forks and MemoryMargin must not be negative"))
	}
	missing(c.Guests == GuestsFork && c.TemplateDir == "", "TemplateDir")
	errs = append(errs, c.Guests.validate())
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Cores == 0 {
		c.Cores = runtime.NumCPU()
	}
	if c.ColdBoots == 0 {
		c.ColdBoots = c.Cores
	}
	if c.Guests == "" {
		c.Guests = GuestsCold
	}
	if c.Forks == 0 {
		c.Forks = c.Guests.startsPerCore() * c.Cores
	}
	if c.MemoryMargin == 0 {
		c.MemoryMargin = 512
	}
	if c.MediumLife == 0 {
		c.MediumLife = 120 * time.Second
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	if c.Entropy == nil {
		c.Entropy = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c.withDefaultHooks()
}

// withDefaultHooks fills in what is asked or told from outside.
func (c Config) withDefaultHooks() Config {
	if c.Trouble == nil {
		c.Trouble = noTrouble{}
	}
	if c.Abandon == nil {
		c.Abandon = func() bool { return false }
	}
	if c.Status == nil {
		c.Status = func() *nodelink.NodeStatus { return &nodelink.NodeStatus{} }
	}
	if c.BootTurn == nil {
		c.BootTurn = func(context.Context) (func(), error) { return func() {}, nil }
	}
	if c.FreeMemory == nil {
		c.FreeMemory = func() (int, bool) { return 0, false }
	}
	if c.OnLink == nil {
		c.OnLink = func(error) {}
	}
	if c.OnRenew == nil {
		c.OnRenew = func() {}
	}
	if c.OnRefused == nil {
		c.OnRefused = func(context.Context, *nodelink.RefusedError) (bool, error) { return false, nil }
	}
	return c
}
