package local

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/sim"
)

// openDriver opens what runs a node's guests.
func openDriver(ctx context.Context, cfg NodeConfig) (hypervisor.Driver, error) {
	if cfg.Guests.Mode == node.GuestsSim {
		return sim.New(sim.Config{Dir: filepath.Join(cfg.Layout.Node(), "sim"), Logger: slog.Default()})
	}
	return libvirt.Open(ctx, libvirt.Config{URI: cfg.HypervisorURI, Root: cfg.Layout.LibvirtRoot(),
		CacheDir: Cache(), Logger: slog.Default()})
}

// imagesFor returns the folder of the images that guests of a kind start from. What simulated guests need is written
// into the state folder; for the others it is dir.
func imagesFor(guests node.GuestMode, l Layout, dir string) (string, error) {
	if guests != node.GuestsSim {
		return dir, nil
	}
	if err := sim.WriteImages(l.SimImages()); err != nil {
		return "", fmt.Errorf("make images of simulated guests: %w", err)
	}
	return l.SimImages(), nil
}
