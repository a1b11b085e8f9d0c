package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// start waits for its turn, makes the medium and starts the machine.
func (g *guest) start(ctx, life context.Context) error {
	mode, plan, img, err := g.awaitTurn(ctx)
	if err != nil {
		return err
	}
	inst := g.wish() // it may have changed meanwhile
	g.record.Instance, g.record.Forked, g.record.Reboots = inst, plan != nil, inst.GetReboots()
	g.record.From = g.c.files.consoleSize(g.id)
	spec, err := g.spec(inst, img)
	if err != nil {
		return err
	}
	if err := g.c.files.makeFolder(g.id); err != nil {
		return err
	}
	// A simulated guest ends with this process: nothing could be left of a start that was not finished.
	if mode != GuestsSim {
		if err := g.c.files.save(g.record); err != nil {
			return err
		}
	}
	if sum := g.mediumSum(inst); sum != "" {
		if spec.Medium, err = g.c.makeMedium(inst, g.record.Forked); err != nil {
			return err
		}
		g.medium, g.record.Credential, g.record.Media = spec.Medium, sum, 1
		g.c.cfg.Trouble.MediumWritten(ctx, g.id, spec.Medium)
		if g.c.cfg.Trouble.DriveEmpty(g.id) {
			spec.Medium = ""
		}
		g.limitMedium(inst)
	}
	if plan != nil {
		err = g.fork(ctx, life, spec, plan)
	} else {
		err = g.boot(life, spec)
	}
	if err != nil {
		if ctx.Err() != nil {
			g.wipeMedium(nodelink.WipedEnded)
			return errClosing
		}
		return err
	}
	g.attach(life) // first: the guest asks for its address as soon as it runs
	g.started(life, mode)
	return nil
}

// started remembers and tells that the machine runs.
func (g *guest) started(life context.Context, mode GuestMode) {
	g.record.Started, g.record.Rebooting = true, false
	if err := g.c.files.save(g.record); err != nil {
		g.log.Error("remember the start", "error", err)
	}
	g.how = string(mode)
	if p, ok := g.machine.(hypervisor.Pooled); ok && p.Pooled() {
		g.how = howPooled
	}
	g.c.reports.state(g.id, stateRunning, "")
	if g.record.Forked {
		g.seat.bootWithin(longestForkTurn)
	}
	attributes := map[string]string{"guests": g.how}
	if n := g.record.Reboots; n > 0 {
		attributes["reboots"] = strconv.FormatUint(n, 10)
	}
	g.tell(stageStarted, attributes)
	if g.medium != "" {
		g.tellInserted()
		g.c.cfg.Trouble.MediumInserted(life, g.id)
	}
	g.c.cfg.Trouble.GuestRuns(life, g.id)
}

// awaitTurn decides how the guest starts and waits until it may.
func (g *guest) awaitTurn(ctx context.Context) (mode GuestMode, plan *forkPlan, img image, err error) {
	wanted, stop := g.whileWanted(ctx)
	defer stop()
	inst := g.wish()
	if img, err = g.image(inst); err != nil {
		return "", nil, image{}, err
	}
	mode, plan, err = g.plan(wanted, inst, img)
	if err == nil {
		kind := coldTurn
		if mode != GuestsCold {
			kind = forkTurn
		}
		g.seat, err = g.c.takeTurn(wanted, kind, mode.cost().of(int(inst.GetMemoryMb())))
	}
	switch {
	case err == nil:
		return mode, plan, img, nil
	case ctx.Err() != nil:
		return "", nil, image{}, errClosing
	case wanted.Err() != nil:
		return "", nil, image{}, errRemoved
	}
	return "", nil, image{}, err
}

// whileWanted returns a context that ends with ctx or when the instance is removed.
func (g *guest) whileWanted(ctx context.Context) (wanted context.Context, stop func()) {
	wanted, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(g.removal, cancel)
	return wanted, func() { unhook(); cancel() }
}

// boot starts the machine from its kernel. One that exists already was started by a process that was killed before it
// could say so, and has another medium than ours: it is ended first.
func (g *guest) boot(life context.Context, spec hypervisor.Spec) error {
	machine, err := g.c.cfg.Driver.Start(life, spec)
	if errors.Is(err, hypervisor.ErrExists) {
		if err := g.endOld(life); err != nil {
			return err
		}
		machine, err = g.c.cfg.Driver.Start(life, spec)
	}
	if err != nil {
		return fmt.Errorf("start machine: %w", err)
	}
	g.machine = machine
	return nil
}

func (g *guest) endOld(life context.Context) error {
	old, err := g.c.cfg.Driver.Find(life, g.id)
	if err == nil {
		err = old.Kill(life)
	}
	if err != nil {
		return fmt.Errorf("end old machine: %w", err)
	}
	return nil
}

func (g *guest) image(inst *nodelink.Instance) (image, error) {
	img, err := g.c.images.load(inst.GetImage())
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
		ConsoleLog: g.c.files.console(g.id), Display: slices.Contains(g.c.cfg.Displays, inst.GetImage()),
	}
	for _, path := range []*string{&spec.NIC.Socket, &spec.ConsoleLog} {
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
