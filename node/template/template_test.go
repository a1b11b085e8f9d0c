package template

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

func TestATemplateIsMadeOnceAndFoundAgain(t *testing.T) {
	p := newPlace(t)
	m := p.manager()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { p.get(m, shape()) })
	}
	wg.Wait()
	first := p.get(m, shape())
	spec := p.forker.started[0]
	if spec.Cmdline != "quiet cloudtwin.template" || spec.MemoryMB != 64 || !IsMachine(spec.ID) || spec.NIC.MAC == "" {
		t.Errorf("started as %+v", spec)
	}
	if info, err := os.Stat(first.Memory); err != nil || info.Size() != 64<<20 {
		t.Errorf("memory: %v, %v", info, err)
	}
	next := p.manager() // another process
	if got := p.get(next, shape()); got != first {
		t.Errorf("the next process has %v, want %v", got, first)
	}
	if n := p.forker.builds(); n != 1 {
		t.Errorf("%d builds, want 1", n)
	}
	if n := len(p.forker.running); n != 0 {
		t.Errorf("%d machines are left", n)
	}
	if diff := cmp.Diff([]string(nil), p.leftovers()); diff != "" {
		t.Errorf("left in the folder (-want +got):\n%s", diff)
	}
}

func TestWhatMakesAnotherTemplate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*fakeForker, *Shape)
		builds int
	}{
		{name: "nothing", change: func(*fakeForker, *Shape) {}, builds: 1},
		{name: "the same image elsewhere", change: func(_ *fakeForker, s *Shape) { s.Kernel = "/other/k" }, builds: 1},
		{name: "another QEMU", change: func(f *fakeForker, _ *Shape) { f.ground = "QEMU 8.0" }, builds: 2},
		{name: "another image", change: func(_ *fakeForker, s *Shape) { s.Digest = "sha256:bb" }, builds: 2},
		{name: "another command line", change: func(_ *fakeForker, s *Shape) { s.Cmdline = "" }, builds: 2},
		{name: "more memory", change: func(_ *fakeForker, s *Shape) { s.MemoryMB = 128 }, builds: 2},
		{name: "more processors", change: func(_ *fakeForker, s *Shape) { s.VCPUs = 2 }, builds: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			p.get(p.manager(), shape())
			s := shape()
			tt.change(p.forker, &s)
			p.get(p.manager(), s)
			if n := p.forker.builds(); n != tt.builds {
				t.Errorf("%d builds, want %d", n, tt.builds)
			}
		})
	}
}

func TestADamagedTemplateIsMadeAnew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, tpl hypervisor.Template)
	}{
		{name: "state cut short", damage: func(t *testing.T, tpl hypervisor.Template) { truncate(t, tpl.State, 3) }},
		{name: "memory cut short", damage: func(t *testing.T, tpl hypervisor.Template) { truncate(t, tpl.Memory, 1<<20) }},
		{name: "no state", damage: func(t *testing.T, tpl hypervisor.Template) { remove(t, tpl.State) }},
		{name: "no note", damage: func(t *testing.T, tpl hypervisor.Template) { remove(t, noteOf(tpl)) }},
		{name: "note cut short", damage: func(t *testing.T, tpl hypervisor.Template) { truncate(t, noteOf(tpl), 20) }},
		{name: "a byte of the memory", damage: func(t *testing.T, tpl hypervisor.Template) {
			f, err := os.OpenFile(tpl.Memory, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("x"), 5000)
			}
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			tpl := p.get(p.manager(), shape())
			tt.damage(t, tpl)
			p.get(p.manager(), shape())
			if n := p.forker.builds(); n != 2 {
				t.Errorf("%d builds, want 2", n)
			}
			if err := check(filepath.Dir(tpl.State), filepath.Base(filepath.Dir(tpl.State))); err != nil {
				t.Errorf("what was made anew: %v", err)
			}
			if left := p.leftovers(); left != nil {
				t.Errorf("left in the folder: %v", left)
			}
		})
	}
}

func noteOf(tpl hypervisor.Template) string { return filepath.Join(filepath.Dir(tpl.State), noteFile) }

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBecomeATemplate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setUp func(*place)
		want  error
		says  string
	}{
		{name: "silence", setUp: func(p *place) { p.forker.says = "Kernel panic - not syncing\n" }, want: ErrNotReady,
			says: "Kernel panic"},
		{name: "it ends", setUp: func(p *place) { p.forker.says, p.forker.ends = "bye\n", true }, want: ErrNotReady,
			says: "it ended"},
		{name: "it fails", setUp: func(p *place) {
			p.forker.says = `@cloudtwin {"stage":"failed","t":1,"reason":"no floppy drive"}` + "\n"
		}, want: ErrNotReady, says: "no floppy drive"},
		{name: "no space beforehand", setUp: func(p *place) {
			p.change = func(c *Config) { c.FreeBytes = func(string) (uint64, error) { return 100 << 20, nil } }
		}, want: ErrSpace, says: "100 MB"},
		{name: "no space for the state", setUp: func(p *place) { p.forker.saveErr = errFull }, want: errFull, says: "save"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlace(t)
				tt.setUp(p)
				m := p.manager()
				_, err := m.Get(t.Context(), shape())
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("error %v, want %v with %q", err, tt.want, tt.says)
				}
				if n, left := len(p.forker.running), p.leftovers(); n != 0 || left != nil {
					t.Errorf("%d machines are left, and %v", n, left)
				}
				// The next ones who ask do not wait for the same failure, for a while.
				builds, asked := p.forker.builds(), time.Now()
				if _, again := m.Get(t.Context(), shape()); !errors.Is(again, tt.want) || time.Since(asked) > 0 ||
					p.forker.builds() != builds {
					t.Errorf("asked again at once: %v after %v", again, time.Since(asked))
				}
				p.forker.says, p.forker.saveErr, p.forker.ends = readyLine, nil, false
				m.cfg.FreeBytes = freeBytes
				<-time.After(time.Minute)
				p.get(m, shape())
			})
		})
	}
}

var errFull = errors.New("no space left on device")

func TestTwoProcessesMakeOneTemplate(t *testing.T) {
	p := newPlace(t)
	p.forker.starting = make(chan struct{})
	a, b := p.manager(), p.manager()
	got := make(chan hypervisor.Template, 2)
	for _, m := range []*Manager{a, b} {
		go func() {
			tpl, err := m.Get(context.Background(), shape())
			if err != nil {
				t.Error(err)
			}
			got <- tpl
		}()
	}
	close(p.forker.starting)
	if x, y := <-got, <-got; x != y {
		t.Errorf("two templates: %v and %v", x, y)
	}
	if n := p.forker.builds(); n != 1 {
		t.Errorf("%d builds, want 1", n)
	}
}

func TestCloseLeavesNothingHalfBuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.forker.says = "booting\n"
		m := p.manager()
		m.Warm(shape())
		failed := make(chan error, 1)
		go func() {
			_, err := m.Get(t.Context(), shape())
			failed <- err
		}()
		synctest.Wait() // until the guest has said all, and whoever asked waits for it
		if n := p.forker.builds(); n != 1 {
			t.Fatalf("%d builds are under way", n)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("who waited got %v", err)
		}
		if _, err := m.Get(t.Context(), shape()); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed manager: %v", err)
		}
		if n, left := len(p.forker.running), p.leftovers(); n != 0 || left != nil {
			t.Errorf("%d machines are left, and %v", n, left)
		}
	})
}

func TestWhatAKilledProcessLeft(t *testing.T) {
	p := newPlace(t)
	m := p.manager()
	key, err := shape().key(p.forker.ground)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(p.dir, unfinishedPrefix+key+"-123")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	id := machinePrefix + key[:keyBytes]
	p.forker.running[id] = &fakeMachine{forker: p.forker, id: id}
	p.get(m, shape())
	if left := p.leftovers(); left != nil {
		t.Errorf("left in the folder: %v", left)
	}
}

func TestRejectedTemplates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.get(p.manager(), shape())
		m := p.manager()
		tpl := p.get(m, shape())
		refused := errors.New("refused")
		m.Reject(shape(), tpl, refused)
		m.Reject(shape(), tpl, refused) // by another fork at the same time
		p.get(m, shape())
		if n := p.forker.builds(); n != 2 {
			t.Fatalf("%d builds, want 2: a template that the hypervisor refuses is made anew", n)
		}
		m.Reject(shape(), tpl, refused)
		if _, err := m.Get(t.Context(), shape()); !errors.Is(err, refused) {
			t.Errorf("refused as soon as it was made: %v", err)
		}
		<-time.After(time.Minute)
		p.get(m, shape())
		if n := p.forker.builds(); n != 3 {
			t.Errorf("%d builds, want 3", n)
		}
	})
}

func TestOldTemplatesAreRemoved(t *testing.T) {
	p := newPlace(t)
	p.change = func(c *Config) { c.Keep, c.MaxAge = 2, 24*time.Hour }
	of := func(flavour, digest string) Shape {
		s := shape()
		s.Flavour, s.Digest = flavour, digest
		return s
	}
	made := func(s Shape, used time.Duration) hypervisor.Template {
		m := p.manager()
		tpl := p.get(m, s)
		if err := m.Close(); err != nil { // its process ends
			t.Fatal(err)
		}
		at := time.Now().Add(-used)
		if err := os.Chtimes(noteOf(tpl), at, at); err != nil {
			t.Fatal(err)
		}
		return tpl
	}
	ancientWeb := made(of("web", "w1"), 48*time.Hour)
	web := made(of("web", "w2"), time.Hour)
	older := made(of("lbvm", "l1"), 3*time.Hour)
	recent := made(of("lbvm", "l2"), 2*time.Hour)
	user := p.manager()
	used := p.get(user, of("lbvm", "l0"))
	at := time.Now().Add(-20 * time.Hour)
	if err := os.Chtimes(noteOf(used), at, at); err != nil {
		t.Fatal(err)
	}
	newest := p.get(p.manager(), of("lbvm", "l3"))
	for _, tt := range []struct {
		name string
		tpl  hypervisor.Template
		want bool
	}{
		{name: "not used for long", tpl: ancientWeb, want: false},
		{name: "of another image", tpl: web, want: true},
		{name: "one too many", tpl: older, want: false},
		{name: "the one before", tpl: recent, want: true},
		{name: "in use by a process", tpl: used, want: true},
		{name: "the newest", tpl: newest, want: true},
	} {
		_, err := os.Stat(tt.tpl.State)
		if got := err == nil; got != tt.want {
			t.Errorf("%s: there %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestBadConfig(t *testing.T) {
	err := Config{Keep: -1}.Validate()
	for _, word := range []string{"Driver", "Dir", "Keep"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Driver: newForker(), Dir: open, SocketDir: "/tmp"}); err == nil {
		t.Error("a folder that anybody may write to is taken")
	}
	m := newPlace(t).manager()
	if _, err := m.Get(t.Context(), Shape{Flavour: "lbvm"}); err == nil {
		t.Error("a shape without an image is taken")
	}
	large := shape()
	large.MemoryMB = 4096
	if _, err := m.Get(t.Context(), large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a guest of 4 GB: %v", err)
	}
}
