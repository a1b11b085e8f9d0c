package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
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
	if u, err := url.Parse(uri); err != nil || u.Scheme == "" {
		return fmt.Errorf("--hypervisor %q: want a libvirt URI, such as qemu:///system", uri)
	}
	return nil
}

// guestsFlags are the flags by which commands with a node choose how its guests come to life.
type guestsFlags struct {
	mode, templates string
	pool            int
}

func (g *guestsFlags) register(cmd *cobra.Command) {
	g.registerMode(cmd)
	flags := cmd.Flags()
	flags.IntVar(&g.pool, "pool", 0, "forks kept ready for the next guests of each image, paused")
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
	return local.Guests{Mode: mode, Pool: g.pool, Templates: g.templates}, nil
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
