package controller

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// fakeDriver keeps machines in memory. It outlives the controllers that use it, as real guests outlive a process.
type fakeDriver struct {
	mu       sync.Mutex
	machines map[string]*fakeMachine
	starts   []hypervisor.Spec
	startErr error
	events   map[chan hypervisor.Event]struct{}
}

func newFakeDriver() *fakeDriver {
	return &fakeDriver{machines: map[string]*fakeMachine{}, events: map[chan hypervisor.Event]struct{}{}}
}

var _ hypervisor.Driver = (*fakeDriver)(nil)

func (d *fakeDriver) Start(_ context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if d.startErr != nil {
		return nil, d.startErr
	}
	if d.machines[spec.ID] != nil {
		return nil, hypervisor.ErrExists
	}
	d.starts = append(d.starts, spec)
	m := &fakeMachine{driver: d, id: spec.ID, state: hypervisor.Running, medium: spec.Medium, log: spec.ConsoleLog,
		wake: make(chan struct{})}
	d.machines[spec.ID] = m
	return m, nil
}

func (d *fakeDriver) Find(_ context.Context, id string) (hypervisor.Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.machines[id]; m != nil {
		return m, nil
	}
	return nil, hypervisor.ErrNotFound
}

func (d *fakeDriver) List(ctx context.Context) (out []hypervisor.Machine, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(d.machines)) {
		out = append(out, d.machines[id])
	}
	return out, nil
}

func (d *fakeDriver) Events(ctx context.Context) (<-chan hypervisor.Event, error) {
	ch := make(chan hypervisor.Event, 16)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.events, ch)
		close(ch)
	})
	return ch, nil
}

func (d *fakeDriver) Info() hypervisor.Info {
	return hypervisor.Info{Driver: "fake", Accelerator: "none", BootTimeout: 30 * time.Second}
}

func (d *fakeDriver) Close() error { return nil }

func (d *fakeDriver) tell(ev hypervisor.Event) {
	for ch := range d.events {
		ch <- ev
	}
}

func (d *fakeDriver) machine(id string) *fakeMachine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.machines[id]
}

func (d *fakeDriver) started() (ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.starts {
		ids = append(ids, s.ID)
	}
	return ids
}

type fakeMachine struct {
	driver   *fakeDriver
	id       string
	log      string
	state    hypervisor.State
	medium   string
	inserted int
	ejectErr error
	stateErr error
	output   []byte
	wake     chan struct{} // closed and replaced when there is output, or the end
}

func (m *fakeMachine) ID() string { return m.id }

func (m *fakeMachine) State(context.Context) (hypervisor.State, error) {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	return m.state, m.stateErr
}

func (m *fakeMachine) Stop(context.Context) error { return nil }

func (m *fakeMachine) Kill(context.Context) error {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	m.endLocked(hypervisor.Gone, "destroyed")
	delete(m.driver.machines, m.id)
	return nil
}

func (m *fakeMachine) endLocked(state hypervisor.State, reason string) {
	if m.state == hypervisor.Gone {
		return
	}
	m.state = state
	m.driver.tell(hypervisor.Event{ID: m.id, State: state, Reason: reason})
	close(m.wake)
	m.wake = make(chan struct{})
}

// end makes the guest end by itself.
func (m *fakeMachine) end(state hypervisor.State, reason string) {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	m.endLocked(state, reason)
}

func (m *fakeMachine) InsertMedium(_ context.Context, path string) error {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	m.medium = path
	m.inserted++
	return nil
}

func (m *fakeMachine) EjectMedium(context.Context) error {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	if m.ejectErr != nil {
		return m.ejectErr
	}
	if m.medium == "" {
		return hypervisor.ErrNoMedium
	}
	m.medium = ""
	return nil
}

func (m *fakeMachine) drive() string {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	return m.medium
}

func (m *fakeMachine) Statistics(context.Context) (hypervisor.Statistics, error) {
	return hypervisor.Statistics{}, nil
}

// say prints on the guest's console.
func (m *fakeMachine) say(t *testing.T, lines ...string) {
	t.Helper()
	text := strings.Join(lines, "\n") + "\n"
	f, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	m.output = append(m.output, text...)
	close(m.wake)
	m.wake = make(chan struct{})
}

func stage(name string, seconds float64, attrs ...string) string {
	out := fmt.Sprintf(`@cloudtwin {"stage":%q,"t":%.3f`, name, seconds)
	for i := 0; i+1 < len(attrs); i += 2 {
		out += fmt.Sprintf(`,%q:%q`, attrs[i], attrs[i+1])
	}
	return out + "}"
}

func (m *fakeMachine) Console(ctx context.Context) (io.ReadCloser, error) {
	return &fakeConsole{ctx: ctx, m: m}, nil
}

type fakeConsole struct {
	ctx context.Context //nolint:containedctx // a reader has no other place for it
	m   *fakeMachine
	at  int
}

func (c *fakeConsole) Read(p []byte) (int, error) {
	for {
		c.m.driver.mu.Lock()
		n := copy(p, c.m.output[c.at:])
		c.at += n
		wake, gone := c.m.wake, c.m.state == hypervisor.Gone
		c.m.driver.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if gone || c.ctx.Err() != nil {
			return 0, io.EOF
		}
		select {
		case <-wake:
		case <-c.ctx.Done():
		}
	}
}

func (c *fakeConsole) Close() error { return nil }
