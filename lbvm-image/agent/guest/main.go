package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/rehearsal"
)

// Where the builder put things in the initramfs.
const (
	flavourFile = "/etc/cloudtwin/flavour"
	moduleList  = "/etc/cloudtwin/modules"
)

// roleVariable marks the agent's process among those that run this program.
const roleVariable = "CLOUDTWIN_PROCESS=agent"

// runtimeSettings spare an emulated processor work that a guest does not need: signals that preempt goroutines which
// run for more than 10 ms (all of ours call functions, where they can be preempted without), and looking every now and
// then for a change of the number of processors.
const runtimeSettings = "GODEBUG=asyncpreemptoff=1,updatemaxprocs=0"

// stopGrace is how long the agent may take to finish once the power button was pressed. A hypervisor that asks twice
// kills; the wait is for requests under way.
const stopGrace = 3 * time.Second

// Flavour is what a guest of one flavour does.
type Flavour struct {
	// Run is its life, for example agent.RunLBVM.
	Run func(context.Context, agent.World) error
	// Rehearse plays that life before a template is saved, for example rehearsal.LBVM.
	Rehearse func(ctx context.Context, stage rehearsal.Stage) error
}

// Main is the whole program: process 1, or the agent that process 1 starts. flavours are known by their images' names.
// It returns the exit status, and only when it was started by hand on a running system.
func Main(flavours map[string]Flavour) int {
	switch {
	case os.Getpid() == 1:
		supervise()
	case os.Getenv(variableName(roleVariable)) == "agent":
		runAgent(flavours)
	case filepath.Base(os.Args[0]) == "curl":
		return runCurl(os.Args[1:])
	default:
		fmt.Fprintln(os.Stderr, "lbvm-agent is the first process of a guest; start a guest with \"cloudtwin up\"")
	}
	return 2
}

func variableName(assignment string) string {
	name, _, _ := strings.Cut(assignment, "=")
	return name
}

// runAgent makes the World and runs the role in it. It ends by switching the machine off.
func runAgent(flavours map[string]Flavour) {
	out := newConsoles(os.Stdout)
	console := agent.NewConsole(out, uptime)
	console.Milestone(agent.StageBooted)
	err := refuseCoreDumps()
	if err == nil {
		err = serve(flavours, out, console)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		console.Milestone(agent.StageFailed, slog.String("reason", err.Error()))
	}
	console.Milestone(agent.StagePowerOff)
	powerOff()
}

func serve(flavours map[string]Flavour, out *consoles, console agent.Console) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := mountAll(); err != nil {
		return err
	}
	text, err := os.ReadFile(flavourFile)
	if err != nil {
		return fmt.Errorf("read flavour: %w", err)
	}
	name := strings.TrimSpace(string(text))
	flavour, ok := flavours[name]
	if !ok {
		return fmt.Errorf("this agent knows no flavour %q", name)
	}
	limitMemory()
	quietKernel()
	ctx, pressed := context.WithCancel(ctx)
	defer pressed()
	context.AfterFunc(ctx, func() {
		time.AfterFunc(stopGrace, func() {
			console.Milestone(agent.StagePowerOff, slog.String("reason", "the agent took too long to stop"))
			powerOff()
		})
	})
	words, err := readCmdline()
	if err != nil {
		return err
	}
	out.show(openScreen(words))
	machine := &machine{
		console: console, modules: moduleLists(words),
		logger:  slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo})),
		pressed: pressed,
	}
	var world agent.World
	if slices.Contains(words, templateWord) {
		world, err = machine.bootTemplate(ctx, flavour)
	} else {
		world, err = machine.boot(ctx)
	}
	if err != nil {
		return err
	}
	return flavour.Run(ctx, world)
}

// readCmdline returns the words of the kernel's command line.
func readCmdline() ([]string, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("read command line: %w", err)
	}
	return strings.Fields(string(text)), nil
}

// machine is the guest while it boots.
type machine struct {
	console agent.Console
	modules []string // lists of them
	logger  *slog.Logger
	pressed func() // the power button was pressed
}

// boot loads the modules and configures the network at the same time: one waits for devices, the other for answers.
func (m *machine) boot(ctx context.Context) (agent.World, error) {
	loader, err := newLoader(m.modules[0], m.modules[1:]...)
	if err != nil {
		return agent.World{}, err
	}
	go loader.run()
	type result struct {
		addr string
		err  error
	}
	network := make(chan result, 1)
	go func() {
		addr, err := m.configureNetwork(ctx, loader)
		network <- result{addr, err}
	}()
	m.finishModules(ctx, loader)
	configured := <-network
	if configured.err != nil {
		return agent.World{}, configured.err
	}
	m.console.Milestone(agent.StageNetwork, slog.String("addr", configured.addr))
	return m.world(), nil
}

// finishModules waits until all modules are loaded, and tells which could not be.
func (m *machine) finishModules(ctx context.Context, loader *loader) {
	for name, err := range loader.wait() {
		m.logger.Warn("module not loaded", "module", name, "error", err)
	}
	m.console.Milestone(agent.StageModules)
	go m.watchButton(ctx)
}

func (m *machine) world() agent.World {
	return agent.World{
		Medium:   newMedium(m.logger),
		Dial:     (&net.Dialer{}).DialContext,
		Listen:   listen,
		Now:      time.Now,
		SetClock: setClock,
		Entropy:  addEntropy,
		Console:  m.console,
		Logger:   m.logger,
		Terminal: os.Stdout,
		Shell:    runShell,
		PowerOff: powerOff,
	}
}

// listen opens a port without multipath TCP, which the kernel would first look for a module for.
func listen(network, address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	return config.Listen(context.Background(), network, address)
}

// sleep waits and tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// uptime is the time since the kernel started.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func setClock(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}

// startMemory is about what the agent holds when it starts, in bytes.
const startMemory = 8 << 20

// limitMemory makes the garbage collector work harder when the agent uses three quarters of what the kernel had left:
// there is no swap, and a guest of 96 MB has some 20 MB for the agent.
func limitMemory() {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return
	}
	free := (info.Freeram + info.Bufferram) * uint64(info.Unit)
	debug.SetMemoryLimit(startMemory + int64(free/4*3))
}

// quietKernel turns off what a guest's kernel does now and then for nobody: it has no module loader to call, next to no
// memory to compact, and nobody who reads its statistics. Hosts have hundreds of such guests. A setting that the kernel
// does not have is left out.
func quietKernel() {
	for path, value := range map[string]string{
		"kernel/modprobe":              "\n",
		"vm/compaction_proactiveness":  "0",
		"vm/stat_interval":             "600",
		"vm/dirty_writeback_centisecs": "0",
	} {
		_ = os.WriteFile("/proc/sys/"+path, []byte(value), 0)
	}
}

// mountAll mounts the kernel's file systems and two for files that come and go.
func mountAll() error {
	for _, m := range []struct{ kind, dir, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"tmpfs", "/tmp", "mode=1777,size=1m"},
		{"tmpfs", "/run", "mode=755,size=4m"},
	} {
		flags := uintptr(unix.MS_NOSUID | unix.MS_NOEXEC)
		if err := unix.Mount(m.kind, m.dir, m.kind, flags, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return &fs.PathError{Op: "mount " + m.kind, Path: m.dir, Err: err}
		}
	}
	return nil
}
