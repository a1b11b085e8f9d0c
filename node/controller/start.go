package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// start waits for its turn to boot, makes the medium and starts the machine.
func (g *guest) start(ctx, life context.Context) error {
	select {
	case g.c.boots <- struct{}{}:
		g.booting = true
	case <-g.removed:
		return errRemoved
	case <-ctx.Done():
		return errClosing
	}
	inst := g.wish()
	g.record.Instance = inst
	img, err := g.image(inst)
	if err != nil {
		return err
	}
	spec, err := g.spec(inst, img)
	if err != nil {
		return err
	}
	if err := g.c.files.save(g.record); err != nil {
		return err
	}
	if inst.GetCredential() != nil {
		if spec.Medium, err = g.c.makeMedium(inst); err != nil {
			return err
		}
		g.medium, g.record.Credential, g.record.Media = spec.Medium, inst.GetCredential().Fingerprint(), 1
		g.mediumTimer.Reset(g.c.cfg.MediumLife)
	}
	err = g.startMachine(life, spec)
	if err != nil {
		if ctx.Err() != nil {
			g.wipeMedium(nodelink.WipedEnded)
			return errClosing
		}
		return err
	}
	g.record.Started = true
	if err := g.c.files.save(g.record); err != nil {
		g.log.Error("remember the start", "error", err)
	}
	g.c.reports.state(g.id, stateRunning, "")
	g.tell(stageStarted, nil)
	if g.medium != "" {
		g.tell(stageInserted, nil)
	}
	return nil
}

// startMachine starts the machine. One that exists already was started by a process that was killed before it
// could say so, and has another medium than ours: it is ended first.
func (g *guest) startMachine(life context.Context, spec hypervisor.Spec) error {
	machine, err := g.c.cfg.Driver.Start(life, spec)
	if errors.Is(err, hypervisor.ErrExists) {
		old, findErr := g.c.cfg.Driver.Find(life, g.id)
		if findErr != nil {
			return errors.Join(err, findErr)
		}
		if killErr := old.Kill(life); killErr != nil {
			return errors.Join(err, killErr)
		}
		machine, err = g.c.cfg.Driver.Start(life, spec)
	}
	if err != nil {
		return fmt.Errorf("start machine: %w", err)
	}
	g.machine = machine
	return nil
}

func (g *guest) image(inst *nodelink.Instance) (image, error) {
	img, err := loadImage(g.c.cfg.Images, inst.GetImage())
	if err != nil {
		return image{}, err
	}
	if want := inst.GetImageDigest(); want != "" && want != img.digest {
		return image{}, fmt.Errorf("image %s is another build here (%s) than was asked for (%s)", inst.GetImage(),
			img.digest, want)
	}
	return img, nil
}

func (g *guest) spec(inst *nodelink.Instance, img image) (hypervisor.Spec, error) {
	spec := hypervisor.Spec{
		ID: g.id, Kernel: img.kernel, Initrd: img.initrd, Cmdline: img.cmdline,
		MemoryMB: int(inst.GetMemoryMb()), VCPUs: int(inst.GetVcpus()),
		NIC:        hypervisor.NIC{MAC: inst.GetMac(), Socket: g.c.files.socket(g.id)},
		ConsoleLog: g.c.files.console(g.id),
	}
	for _, path := range []*string{&spec.Kernel, &spec.Initrd, &spec.NIC.Socket, &spec.ConsoleLog} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return spec, fmt.Errorf("find path of %s: %w", *path, err)
		}
		*path = abs
	}
	// A socket that a killed process left would be in the new one's way.
	if err := os.Remove(spec.NIC.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return spec, fmt.Errorf("remove old socket: %w", err)
	}
	return spec, nil
}

// bootDone lets the next guest boot.
func (g *guest) bootDone() {
	if g.booting {
		g.booting = false
		<-g.c.boots
	}
}

// attach plugs the machine into the guests' network.
func (g *guest) attach(life context.Context) {
	inst := g.wish()
	ip, err := netip.ParseAddr(inst.GetPrivateIp())
	if err != nil {
		g.log.Error("attach network", "error", err)
		return
	}
	err = g.c.cfg.Network.Attach(life, vnet.PortConfig{
		InstanceID: g.id, MAC: inst.GetMac(), IP: ip, Socket: g.c.files.socket(g.id), Hostname: hostname(inst),
	})
	if err != nil && !errors.Is(err, vnet.ErrAttached) {
		g.log.Error("attach network", "error", err)
	}
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
	if len(text) > maxAttribute {
		text = text[:maxAttribute]
	}
	return strings.ToValidUTF8(text, "")
}

func (g *guest) unexposeAll() {
	for address := range g.exposed {
		g.c.cfg.Network.Unexpose(address)
	}
	clear(g.exposed)
}

// insert puts a fresh medium into a running guest.
func (g *guest) insert(life context.Context, inst *nodelink.Instance) {
	g.takeMedium(life, "replaced")
	sum := inst.GetCredential().Fingerprint()
	path, err := g.c.makeMedium(inst)
	if err != nil {
		// The same sealed credential will never open; only a new one is a new try.
		g.remember(sum)
		g.log.Error("make medium", "error", err)
		g.tell(stageMediumFailed, map[string]string{"reason": clip(err.Error())})
		return
	}
	g.medium = path
	if err := g.machine.InsertMedium(life, path); err != nil {
		g.log.Warn("insert medium", "error", err)
		g.tell(stageMediumFailed, map[string]string{"reason": clip(err.Error())})
		g.wipeMedium("not inserted")
		g.choreTimer.Reset(chorePause)
		return
	}
	g.mediumTimer.Reset(g.c.cfg.MediumLife)
	g.remember(sum)
	g.tell(stageInserted, nil)
}

// remember notes that the guest was given the credential sum.
func (g *guest) remember(sum string) {
	if sum != g.record.Credential {
		g.record.Media++
	}
	g.record.Credential = sum
	g.inherited = false
	if err := g.c.files.save(g.record); err != nil {
		g.log.Error("remember the medium", "error", err)
	}
}

// takeMedium empties the drive and wipes the image, whatever the drive says.
func (g *guest) takeMedium(life context.Context, reason string) {
	g.mediumTimer.Stop()
	if g.medium == "" {
		return
	}
	g.ejectMedium(life)
	g.wipeMedium(reason)
}

func (g *guest) ejectMedium(life context.Context) {
	err := g.machine.EjectMedium(life)
	g.eject = err != nil && !errors.Is(err, hypervisor.ErrNoMedium) && !errors.Is(err, hypervisor.ErrNotFound)
	if g.eject {
		g.log.Warn("eject medium", "error", err)
		g.choreTimer.Reset(chorePause)
	}
}

// wipeMedium overwrites and removes the image. When that fails, it is tried again: a key must not stay.
func (g *guest) wipeMedium(reason string) {
	if g.medium == "" {
		return
	}
	g.mediumTimer.Stop()
	if err := wipe(g.medium); err != nil {
		g.log.Error("wipe medium", "error", err)
		g.choreTimer.Reset(chorePause)
		return
	}
	g.medium = ""
	g.tellWiped(reason)
}

// tellWiped tells that the medium of the guest's last credential is gone.
func (g *guest) tellWiped(reason string) {
	g.tell(nodelink.StageMediumWiped, map[string]string{"reason": reason, "credential": g.record.Credential})
}

// chores tries again what did not work.
func (g *guest) chores(life context.Context) {
	if g.eject {
		g.ejectMedium(life)
		if g.medium != "" {
			g.wipeMedium("late")
		}
	}
	g.update(life)
}
