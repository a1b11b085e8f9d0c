package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Program is what a flavour of guests does from its first process on, until it has switched its machine off or ctx,
// the machine's life, ends. One that returns before leaves its kernel without a process, which is a panic.
type Program func(ctx context.Context, g *Guest)

// stopGrace is how long a guest may take to finish once its power button was pressed, as in a real one.
const stopGrace = 3 * time.Second

// runLBVM is the agent's flavour of guests with a medium, whose time they take.
func runLBVM(ctx context.Context, g *Guest) {
	g.runAgent(ctx, func(ctx context.Context, world agent.World) error {
		world.Become = g.takeTime
		return agent.RunLBVM(ctx, world)
	})
}

// runWeb is the agent's flavour of guests without one.
func runWeb(ctx context.Context, g *Guest) { g.runAgent(ctx, agent.RunWeb) }

// Guest is a machine as the program in it sees it.
type Guest struct{ m *machine }

// Write puts bytes on the serial console.
func (g *Guest) Write(p []byte) (int, error) { return g.m.console.Write(p) }

// Button is closed when the power button is pressed.
func (g *Guest) Button() <-chan struct{} { return g.m.button.Done() }

// PowerOff switches the machine off.
func (g *Guest) PowerOff() { g.m.end(hypervisor.Stopped, reasonShutdown) }

// Panic ends the machine as a kernel does that gives up for this reason.
func (g *Guest) Panic(reason string) {
	if g.m.current() == hypervisor.Running {
		g.printk("Kernel panic - not syncing: " + reason)
	}
	g.m.end(hypervisor.Crashed, reasonPanicked)
}

// ReadMedium reads the bytes of the medium that is in the drive; fs.ErrNotExist when there is none.
func (g *Guest) ReadMedium(p []byte, at int64) (int, error) {
	m, _ := g.m.drive.look()
	if m == nil {
		return 0, fmt.Errorf("read medium: the drive is empty: %w", fs.ErrNotExist)
	}
	return m.ReadAt(p, at)
}

// MediumChanged returns a channel that is closed when the medium is changed next.
func (g *Guest) MediumChanged() <-chan struct{} {
	_, changed := g.m.drive.look()
	return changed
}

// Stage passes a stage of the machine's lifecycle and returns nil when it is over. Otherwise the machine has ended, or
// hung until it was ended.
func (g *Guest) Stage(ctx context.Context, name string) error {
	leave := g.m.leave.Swap(nil)
	if leave == nil { // its boot is over
		enter := g.m.driver.cfg.Clock.Enter()
		leave = &enter
	}
	defer (*leave)()
	failure, err := g.pass(ctx, name)
	if err != nil {
		return err
	}
	(*leave)()
	return g.fail(name, failure)
}

// pass takes the time of a stage and tells how the guest is to fail then.
func (g *Guest) pass(ctx context.Context, name string) (FailureKind, error) {
	s := g.m.life[name]
	if err := g.m.driver.cfg.Clock.Sleep(ctx, s.delay); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	g.m.mu.Lock()
	g.m.booting += s.delay
	g.m.mu.Unlock()
	if name == StageBoot && g.m.spec.MemoryMB < g.m.driver.cfg.Lifecycle.Memory.BootMB {
		return OutOfMemory, nil
	}
	return s.failure, nil
}

// fail has a failure happen, and returns when the machine has ended by it.
func (g *Guest) fail(stage string, failure FailureKind) error {
	switch failure {
	case "":
		return nil
	case Hangs:
		g.m.hung.Store(true)
		<-g.m.ended.Done()
	case PowersOff:
		g.PowerOff()
	case OutOfMemory:
		g.printk("Out of memory: Killed process 1 (init)")
		g.Panic("System is deadlocked on memory")
	case Panics:
		g.printk("BUG: unable to handle page fault for address: ffffffffdeadbeef")
		g.Panic("Fatal exception in interrupt")
	}
	return fmt.Errorf("%s: %w: %s", stage, errFailed, failure)
}

// errFailed means that a guest failed as its lifecycle has it.
var errFailed = errors.New("the guest failed")

// printk writes a line of the kernel.
func (g *Guest) printk(text string) {
	_, _ = fmt.Fprintf(g, "[%12.6f] %s\n", g.m.uptime().Seconds(), text)
}

// boot passes the stages up to the network, in one go for the clock.
func (g *Guest) boot(ctx context.Context, console agent.Console) error {
	leave := *g.m.leave.Swap(nil)
	defer leave()
	for _, s := range []struct{ stage, milestone string }{
		{StageBoot, agent.StageBooted}, {StageModules, agent.StageModules}, {StageNetwork, ""},
	} {
		failure, err := g.pass(ctx, s.stage)
		if err != nil {
			return err
		}
		if failure != "" {
			leave()
			return g.fail(s.stage, failure)
		}
		if s.milestone != "" {
			console.Milestone(s.milestone)
		}
	}
	return nil
}

// runAgent boots the machine and hands it over to the agent.
func (g *Guest) runAgent(ctx context.Context, run func(context.Context, agent.World) error) {
	console := agent.NewConsole(g, g.m.uptime)
	if g.boot(ctx, console) != nil {
		return
	}
	ctx, pressed := context.WithCancel(ctx)
	defer pressed()
	defer g.watchButton(console, pressed)()
	addr, err := g.configureNetwork(ctx)
	if err != nil {
		if g.m.ended.Err() == nil {
			console.Milestone(agent.StageFailed, slog.String("reason", err.Error()))
			console.Milestone(agent.StagePowerOff)
			g.PowerOff()
		}
		return
	}
	console.Milestone(agent.StageNetwork, slog.String("addr", addr))
	g.m.begin()
	// It reports by itself how it ended, and switches the machine off.
	_ = run(ctx, g.world(console))
}

// begin starts the clock of what is not modelled.
func (m *machine) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = time.Now()
}

// watchButton ends the agent when the power button is pressed, and the machine when the agent takes too long then.
func (g *Guest) watchButton(console agent.Console, pressed func()) (stop func() bool) {
	return context.AfterFunc(g.m.button, func() {
		if g.m.hung.Load() {
			return
		}
		pressed()
		time.AfterFunc(stopGrace, func() {
			if g.m.current() == hypervisor.Running {
				console.Milestone(agent.StagePowerOff, slog.String("reason", "the agent took too long to stop"))
				g.PowerOff()
			}
		})
	})
}

// configureNetwork asks for an address until it is answered.
func (g *Guest) configureNetwork(ctx context.Context) (string, error) {
	if g.m.nic == nil {
		return "", errors.New("no network card")
	}
	got, err := g.m.nic.ask(ctx)
	if err != nil {
		return "", fmt.Errorf("get an address: %w", err)
	}
	if got.mtu != 0 {
		g.m.driver.network.mtu.Store(uint32(got.mtu))
	}
	if err := g.m.nic.configure(got.ip, got.router); err != nil {
		return "", fmt.Errorf("set address %s: %w", ipString(got.ip), err)
	}
	return ipString(got.ip), nil
}

// world is the machine as the agent sees it.
func (g *Guest) world(console agent.Console) agent.World {
	m := g.m
	return agent.World{
		Medium: &source{drive: m.drive, spin: func(ctx context.Context) error { return g.Stage(ctx, StageMedium) }},
		Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			return m.driver.network.dial(ctx, m.nic, address)
		},
		Listen:   func(_, address string) (net.Listener, error) { return m.driver.network.listen(m.nic, address) },
		Now:      m.wall.now,
		SetClock: m.wall.set,
		Console:  console,
		Logger:   slog.New(slog.NewTextHandler(g, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Terminal: g,
		PowerOff: g.PowerOff,
	}
}
