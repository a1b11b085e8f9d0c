package template

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// readyLine is what a template's guest prints when it waits for its medium.
const readyLine = `@cloudtwin {"stage":"ready-for-medium","t":1.5}` + "\n"

// fakeForker is a hypervisor whose guests say one text and then wait.
type fakeForker struct {
	mu       sync.Mutex
	ground   string
	says     string
	ends     bool  // the guest ends after that
	saveErr  error // of SaveTemplate, after it wrote half
	running  map[string]*fakeMachine
	started  []hypervisor.Spec
	starting chan struct{} // if set, a start waits for it
}

func newForker() *fakeForker {
	return &fakeForker{ground: "QEMU 7.2", says: "hello\n" + readyLine, running: map[string]*fakeMachine{}}
}

func (f *fakeForker) Start(context.Context, hypervisor.Spec) (hypervisor.Machine, error) {
	return nil, hypervisor.ErrUnavailable
}

func (f *fakeForker) Find(_ context.Context, id string) (hypervisor.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.running[id]; m != nil {
		return m, nil
	}
	return nil, hypervisor.ErrNotFound
}

func (f *fakeForker) List(context.Context) ([]hypervisor.Machine, error) { return nil, nil }

func (f *fakeForker) Events(context.Context) (<-chan hypervisor.Event, error) { return nil, nil }

func (f *fakeForker) Info() hypervisor.Info {
	return hypervisor.Info{Driver: "fake", BootTimeout: 30 * time.Second}
}

func (f *fakeForker) Close() error { return nil }

func (f *fakeForker) Ground(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ground, nil
}

func (f *fakeForker) StartTemplate(ctx context.Context, spec hypervisor.Spec,
	t hypervisor.Template) (hypervisor.Machine, error) {
	if f.starting != nil {
		select {
		case <-f.starting:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if f.running[spec.ID] != nil {
		return nil, hypervisor.ErrExists
	}
	memory := strings.Repeat("m", 1024)
	if err := os.WriteFile(t.Memory, []byte(memory), 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(t.Memory, int64(spec.MemoryMB)<<20); err != nil {
		return nil, err
	}
	m := &fakeMachine{forker: f, id: spec.ID, says: f.says, ends: f.ends}
	f.running[spec.ID] = m
	f.started = append(f.started, spec)
	return m, nil
}

func (f *fakeForker) SaveTemplate(ctx context.Context, m hypervisor.Machine, t hypervisor.Template) error {
	if err := os.WriteFile(t.State, []byte("state of "+m.ID()), 0o600); err != nil {
		return err
	}
	if f.saveErr != nil {
		return f.saveErr
	}
	return m.Kill(ctx)
}

func (f *fakeForker) Fork(context.Context, hypervisor.Spec, hypervisor.Template) (hypervisor.Machine, error) {
	return nil, hypervisor.ErrTemplate
}

func (f *fakeForker) Prepare(
	context.Context, hypervisor.Spec, hypervisor.Template, int, *hypervisor.Rehearsal,
) error {
	return nil
}

func (f *fakeForker) builds() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.started)
}

type fakeMachine struct {
	forker *fakeForker
	id     string
	says   string
	ends   bool
}

func (m *fakeMachine) ID() string { return m.id }
func (m *fakeMachine) State(context.Context) (hypervisor.State, error) {
	return hypervisor.Running, nil
}
func (m *fakeMachine) Stop(context.Context) error                 { return nil }
func (m *fakeMachine) InsertMedium(context.Context, string) error { return nil }
func (m *fakeMachine) EjectMedium(context.Context) error          { return hypervisor.ErrNoMedium }
func (m *fakeMachine) Statistics(context.Context) (hypervisor.Statistics, error) {
	return hypervisor.Statistics{}, nil
}

func (m *fakeMachine) Kill(context.Context) error {
	m.forker.mu.Lock()
	defer m.forker.mu.Unlock()
	delete(m.forker.running, m.id)
	return nil
}

func (m *fakeMachine) Console(ctx context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(m.says), waiting{ctx: ctx, ends: m.ends})), nil
}

// waiting is a console on which nothing comes any more.
type waiting struct {
	ctx  context.Context //nolint:containedctx // a reader has no other place for it
	ends bool
}

func (w waiting) Read([]byte) (int, error) {
	if !w.ends {
		<-w.ctx.Done()
	}
	return 0, io.EOF
}

// place is a template folder with a manager on it.
type place struct {
	t      *testing.T
	dir    string
	forker *fakeForker
	change func(*Config)
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{t: t, dir: filepath.Join(t.TempDir(), "templates"), forker: newForker()}
}

// manager is one process's.
func (p *place) manager() *Manager {
	p.t.Helper()
	cfg := Config{Driver: p.forker, Dir: p.dir, SocketDir: p.t.TempDir()}
	if p.change != nil {
		p.change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := m.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return m
}

func (p *place) get(m *Manager, s Shape) hypervisor.Template {
	p.t.Helper()
	t, err := m.Get(p.t.Context(), s)
	if err != nil {
		p.t.Fatal(err)
	}
	return t
}

// leftovers are the names of all that is neither a template nor a lock.
func (p *place) leftovers() (names []string) {
	p.t.Helper()
	entries, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		if !validKey(e.Name()) && !strings.HasSuffix(e.Name(), lockSuffix) {
			names = append(names, e.Name())
		}
	}
	return names
}

func shape() Shape {
	return Shape{
		Flavour: "lbvm", Digest: "sha256:aa", Kernel: "/k", Initrd: "/i", Cmdline: "quiet", MemoryMB: 64, VCPUs: 1,
	}
}
