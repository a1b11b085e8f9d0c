package drivertest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2" //nolint:staticcheck // the language of the suite
	. "github.com/onsi/gomega"    //nolint:staticcheck // the language of the suite

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest/program"
)

// Harness is what a driver's tests bring to the suite.
type Harness struct {
	// Open opens the driver on the harness's state folder. It is called again after Close, and must find what the
	// driver before left.
	Open func(ctx context.Context) (hypervisor.Driver, error)
	// Kernel and Initrd boot the suite's guest.
	Kernel, Initrd string
	// Dir is a folder of mode 0700 for sockets, media and console logs, with a path of at most 60 bytes.
	Dir string
	// HasDisplay says that machines can have one.
	HasDisplay bool
	// EndsWithDriver says that machines live in the driver's process, and are found as ended by the next driver.
	EndsWithDriver bool
	// Spares tells how many machines the driver that was opened last keeps ready (hypervisor.Forker's Prepare). It may
	// be nil for drivers that are no Forkers.
	Spares func() int
}

// spec describes a machine of the suite.
func (h Harness) spec(id string) hypervisor.Spec {
	return hypervisor.Spec{
		ID: id, Kernel: h.Kernel, Initrd: h.Initrd, MemoryMB: 96,
		NIC:        hypervisor.NIC{MAC: "02:00:0a:40:00:05", Socket: filepath.Join(h.Dir, id+".sock")},
		ConsoleLog: filepath.Join(h.Dir, id+".console"),
	}
}

// medium writes a floppy image with text in its first sector.
func (h Harness) medium(name, text string) string {
	GinkgoHelper()
	path := filepath.Join(h.Dir, name+".img")
	Expect(os.WriteFile(path, image(text), 0o600)).To(Succeed())
	return path
}

// image is a whole floppy that says text.
func image(text string) []byte {
	const size = 1440 << 10
	bytes := make([]byte, size)
	copy(bytes, text+"\n")
	return bytes
}

// transcript collects a console's lines as they come.
type transcript struct {
	mu     sync.Mutex
	lines  []string
	err    error
	reader io.Closer
	ended  chan struct{} // closed when the console has ended
}

// follow reads a machine's console until it ends, or the spec does.
func follow(ctx context.Context, m hypervisor.Machine) *transcript {
	GinkgoHelper()
	console, err := m.Console(ctx)
	Expect(err).NotTo(HaveOccurred(), "open the console")
	t := &transcript{reader: console, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		scanner := bufio.NewScanner(console)
		for scanner.Scan() {
			t.mu.Lock()
			t.lines = append(t.lines, strings.TrimRight(scanner.Text(), "\r"))
			t.mu.Unlock()
		}
		t.mu.Lock()
		t.err = scanner.Err()
		t.mu.Unlock()
	}()
	DeferCleanup(func() {
		_ = console.Close()
		Eventually(t.ended).Should(BeClosed(), "a closed console ends its reader")
	})
	return t
}

// all returns the lines until now.
func (t *transcript) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines...)
}

// said returns the lines of the suite's guest without their prefix.
func (t *transcript) said() []string {
	var said []string
	for _, line := range t.all() {
		if text, ok := strings.CutPrefix(line, program.Prefix); ok {
			said = append(said, text)
		}
	}
	return said
}

// media is what was said but for an empty drive, which a guest may see while one medium is changed for another.
func (t *transcript) media() []string {
	return slices.DeleteFunc(t.said(), func(line string) bool { return line == "no medium" })
}

// failure is the error that ended the transcript.
func (t *transcript) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// happenings collects a driver's events.
type happenings struct {
	mu     sync.Mutex
	events []hypervisor.Event
	closed chan struct{}
}

func observe(ctx context.Context, d hypervisor.Driver) *happenings {
	GinkgoHelper()
	events, err := d.Events(ctx)
	Expect(err).NotTo(HaveOccurred(), "subscribe to events")
	h := &happenings{closed: make(chan struct{})}
	go func() {
		defer close(h.closed)
		for e := range events {
			h.mu.Lock()
			h.events = append(h.events, e)
			h.mu.Unlock()
		}
	}()
	return h
}

// of returns the states that a machine went through.
func (h *happenings) of(id string) []hypervisor.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	var states []hypervisor.State
	for _, e := range h.events {
		if e.ID == id {
			states = append(states, e.State)
		}
	}
	return states
}

// reasons returns why a machine came into a state.
func (h *happenings) reasons(id string, s hypervisor.State) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var reasons []string
	for _, e := range h.events {
		if e.ID == id && e.State == s {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

// bench is what the specs of one container share: an open driver and its events.
type bench struct {
	Harness
	driver hypervisor.Driver
	seen   *happenings
	cancel context.CancelFunc
}

// openBench opens the driver for a container; it is closed, and its machines killed, when the container ends.
func openBench(ctx context.Context, h Harness) *bench {
	GinkgoHelper()
	b := &bench{Harness: h}
	b.open(ctx)
	DeferCleanup(func(ctx context.Context) {
		if b.driver == nil {
			return
		}
		machines, err := b.driver.List(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, m := range machines {
			Expect(m.Kill(ctx)).To(Succeed())
		}
		b.close()
	}, NodeTimeout(time.Minute))
	return b
}

func (b *bench) open(ctx context.Context) {
	GinkgoHelper()
	driver, err := b.Open(ctx)
	Expect(err).NotTo(HaveOccurred(), "open the driver")
	b.driver = driver
	var lasting context.Context
	lasting, b.cancel = context.WithCancel(context.Background())
	b.seen = observe(lasting, driver)
}

func (b *bench) close() {
	GinkgoHelper()
	b.cancel()
	Eventually(b.seen.closed).Should(BeClosed(), "events end with their context")
	Expect(b.driver.Close()).To(Succeed())
	b.driver = nil
}

// dial connects to a machine's network card the way that the driver offers.
func (b *bench) dial(ctx context.Context, id string) (net.Conn, error) {
	if d, ok := b.driver.(hypervisor.Dialer); ok {
		return d.DialNIC(ctx, id)
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", b.spec(id).NIC.Socket)
}

// needSocket skips a spec about sockets of the host where machines have none.
func (b *bench) needSocket() {
	if _, ok := b.driver.(hypervisor.Dialer); ok {
		Skip("this driver's machines have no socket on the host by design (hypervisor.Dialer)")
	}
}

// boot is how long a guest may take to its first line.
func (b *bench) boot() time.Duration { return b.driver.Info().BootTimeout }

// state returns a machine's state for Eventually.
func state(ctx context.Context, m hypervisor.Machine) func() (hypervisor.State, error) {
	return func() (hypervisor.State, error) { return m.State(ctx) }
}

// evidence adds a console to the report of a spec that failed.
func evidence(path string) {
	DeferCleanup(func() {
		if !CurrentSpecReport().Failed() {
			return
		}
		const tail = 8 << 10
		data, err := os.ReadFile(path)
		data = data[max(0, len(data)-tail):]
		AddReportEntry("console", fmt.Sprintf("%s %v\n%s", path, err, data))
	})
}
