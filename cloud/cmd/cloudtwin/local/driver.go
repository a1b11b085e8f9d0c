package local

import (
	"context"
	"errors"
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
		return sim.New(sim.Config{Dir: filepath.Join(cfg.Layout.Node(), "sim"), Logger: slog.Default(),
			Lifecycle: cfg.Guests.Lifecycle, Seed: cfg.Guests.Seed})
	}
	c := libvirt.Config{URI: cfg.HypervisorURI, CacheDir: Cache(), Logger: slog.Default()}
	if cfg.HypervisorURI == "" {
		c.Root = cfg.Layout.LibvirtRoot()
		return libvirt.Open(ctx, c)
	}
	c.NamePrefix = cfg.Layout.machinePrefix()
	undo, err := cfg.Layout.noteDaemon(cfg.HypervisorURI)
	if err != nil {
		return nil, err
	}
	driver, err := libvirt.Open(ctx, c)
	if err != nil {
		return nil, errors.Join(err, undo()) // it has no machine of ours
	}
	return driver, nil
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
