package controller

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/console"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// attach plugs the machine into the guests' network.
func (g *guest) attach(life context.Context) {
	inst := g.wish()
	ip, err := netip.ParseAddr(inst.GetPrivateIp())
	if err != nil {
		g.log.Error("attach network", "error", err)
		return
	}
	port := vnet.PortConfig{
		InstanceID: g.id, MAC: inst.GetMac(), IP: ip, Socket: g.c.files.socket(g.id), Hostname: hostname(inst),
	}
	if dialer, ok := g.c.cfg.Driver.(hypervisor.Dialer); ok {
		port.Dial = func(ctx context.Context) (net.Conn, error) { return dialer.DialNIC(ctx, g.id) }
	}
	err = g.c.cfg.Network.Attach(life, port)
	if err != nil && !errors.Is(err, vnet.ErrAttached) {
		g.log.Error("attach network", "error", err)
		return
	}
	g.capture()
}

func hostname(inst *nodelink.Instance) string {
	return "ip-" + strings.ReplaceAll(inst.GetPrivateIp(), ".", "-")
}

// expose makes the exposures those that the cloud asks for. What does not work is told once and tried again.
func (g *guest) expose(inst *nodelink.Instance) {
	want := map[string]int{}
	for _, e := range inst.GetExposures() {
		want[e.GetHostAddress()] = int(e.GetGuestPort())
	}
	for address, port := range g.exposed {
		if want[address] != port {
			g.c.cfg.Network.Unexpose(address)
			delete(g.exposed, address)
		}
	}
	for address := range g.broken {
		if _, ok := want[address]; !ok {
			delete(g.broken, address)
		}
	}
	for address, port := range want {
		if g.exposed[address] == port {
			continue
		}
		if err := g.c.cfg.Network.Expose(address, g.id, port); err != nil {
			if g.broken[address] != err.Error() {
				g.broken[address] = err.Error()
				g.log.Warn("expose port", "address", address, "error", err)
				g.tell(stageExposeFailed, map[string]string{"address": address, "reason": clip(err.Error())})
			}
			g.choreTimer.Reset(chorePause)
			continue
		}
		g.exposed[address] = port
		delete(g.broken, address)
	}
}

// clip keeps a text within what an attribute may hold.
func clip(text string) string {
	if len(text) > console.MaxAttribute {
		text = text[:console.MaxAttribute]
	}
	return strings.ToValidUTF8(text, "")
}

func (g *guest) unexposeAll() {
	for address := range g.exposed {
		g.c.cfg.Network.Unexpose(address)
	}
	clear(g.exposed)
}
