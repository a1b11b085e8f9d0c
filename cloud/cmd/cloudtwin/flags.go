package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/sim"
)

// checkAddress says what is wrong with a flag's host:port.
func checkAddress(flag, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s %q: want host:port with a port of at most 65535, such as 127.0.0.1:4580", flag, address)
	}
	return nil
}

// checkState says that a cloud's socket would not fit below the folder of the flag --state.
func checkState(layout local.Layout) error {
	if room := hypervisor.MaxSocketPath - len(layout.OperatorSocket()); room < 0 {
		return fmt.Errorf("--state %s: the path is %d bytes too long for the sockets in it; use a shorter one, such as one "+
			"below /tmp", layout, -room)
	}
	return nil
}

// checkHypervisor says what is wrong with the flag --hypervisor, which may be empty.
func checkHypervisor(uri string) error {
	if uri == "" {
		return nil
	}
	if err := libvirt.CheckURI(uri); err != nil {
		return fmt.Errorf("--hypervisor %w", err)
	}
	return nil
}

// guestsFlags are the flags by which commands with a node choose how its guests come to life.
type guestsFlags struct {
	mode, templates string
	pool            int
	capture         bool
	displays        []string
	lifecycle       string
	seed            uint64
}

func (g *guestsFlags) register(cmd *cobra.Command) {
	g.registerMode(cmd)
	flags := cmd.Flags()
	flags.IntVar(&g.pool, "pool", 0, "forks kept ready for the next guests of each image, paused")
	flags.BoolVar(&g.capture, "capture", false, "keep the headers of each guest's latest frames (pcap, without "+
		"payloads, at most 4 MB a guest) for bundles")
	flags.StringSliceVar(&g.displays, "displays", nil, "images whose guests get a display, for screenshots; without "+
		"a value those of users, "+string(builder.Web))
	flags.Lookup("displays").NoOptDefVal = string(builder.Web)
	flags.StringVar(&g.lifecycle, "sim-lifecycle", "", "file that says how simulated guests boot and fail, such as "+
		"fixtures/guests/flaky.json (default: at once, and never)")
	flags.Uint64Var(&g.seed, "sim-seed", 0, "seed of the chances in --sim-lifecycle: the n-th guest of a node with "+
		"this seed always has the same life")
	flags.StringVar(&g.templates, "templates", local.Templates(), "folder of what forks are copies of")
}

func (g *guestsFlags) registerMode(cmd *cobra.Command) {
	mode := os.Getenv(local.GuestsVariable)
	if mode == "" {
		mode = string(local.DefaultGuests)
	}
	cmd.Flags().StringVar(&g.mode, "guests", mode, "how guests come to life: sim (simulated in this process), fork "+
		"(copies of a booted template), cold (booted one by one); without the flag "+local.GuestsVariable+" chooses")
}

// maxPool bounds the flag --pool: paused forks cost memory and starting them takes the cores.
const maxPool = 64

// check returns the choice, or what is wrong with the flags.
func (g *guestsFlags) check(hypervisor string) (local.Guests, error) {
	mode, err := local.ParseGuests(g.mode)
	switch {
	case err != nil:
		return local.Guests{}, fmt.Errorf("--guests: %w", err)
	case g.pool < 0 || g.pool > maxPool:
		return local.Guests{}, fmt.Errorf("--pool %d: want 0 to %d", g.pool, maxPool)
	case g.pool > 0 && mode != node.GuestsFork:
		return local.Guests{}, fmt.Errorf("--pool %d: only forked guests have a pool, not %s", g.pool, mode)
	case hypervisor != "" && mode == node.GuestsSim:
		return local.Guests{}, fmt.Errorf("--hypervisor %s: simulated guests run in this process", hypervisor)
	}
	if err := g.checkDisplays(); err != nil {
		return local.Guests{}, err
	}
	lifecycle, err := g.loadLifecycle(mode)
	if err != nil {
		return local.Guests{}, err
	}
	return local.Guests{Mode: mode, Pool: g.pool, Capture: g.capture, Templates: g.templates, Displays: g.displays,
		Lifecycle: lifecycle, Seed: g.seed}, nil
}

// checkDisplays says which of the images with displays are none.
func (g *guestsFlags) checkDisplays() error {
	for _, name := range g.displays {
		if !slices.Contains(builder.Flavours(), builder.Flavour(name)) {
			return fmt.Errorf("--displays %q: want names of images among %v", name, builder.Flavours())
		}
		if name == string(builder.LBVM) {
			return fmt.Errorf("--displays %s: the image of load balancers has no driver for one", name)
		}
	}
	return nil
}

// loadLifecycle reads how simulated guests live; others live as they do.
func (g *guestsFlags) loadLifecycle(mode node.GuestMode) (sim.Lifecycle, error) {
	switch {
	case g.lifecycle == "" && g.seed == 0:
		return sim.Lifecycle{}, nil
	case mode != node.GuestsSim:
		return sim.Lifecycle{}, fmt.Errorf("--sim-lifecycle and --sim-seed: they are for --guests %s, not for %s",
			node.GuestsSim, mode)
	case g.lifecycle == "":
		return sim.Lifecycle{}, fmt.Errorf("--sim-seed %d: it decides about the chances of --sim-lifecycle, which is missing",
			g.seed)
	}
	l, err := sim.LoadLifecycle(g.lifecycle)
	if err != nil {
		return sim.Lifecycle{}, fmt.Errorf("--sim-lifecycle: %w", err)
	}
	return l, nil
}

// checkToken says that the flag --token, which may be empty, holds no token; never what it holds.
func checkToken(token string) error {
	if token == "" {
		return nil
	}
	if _, err := nodelink.ParseToken(token); err != nil {
		return fmt.Errorf("--token: %w; 'cloudtwin node-token' prints one", err)
	}
	return nil
}
