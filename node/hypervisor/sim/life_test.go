package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

const patience = time.Minute

// lives starts n web guests that nobody connects, so that those which do not fail wait for an address, and tells of
// each what it said and how it ended.
func lives(t *testing.T, cfg Config, n int) []string {
	t.Helper()
	s := newSite(t, newFakeCloud(t), cfg)
	machines := make([]hypervisor.Machine, n)
	specs := make([]hypervisor.Spec, n)
	for i := range machines {
		specs[i], _ = s.spec(Web)
		var err error
		if machines[i], err = s.Start(t.Context(), specs[i]); err != nil {
			t.Fatal(err)
		}
	}
	told := make([]string, n)
	for i, m := range machines {
		drawn := s.cfg.Lifecycle.draw(cfg.Seed, uint64(i+1))
		state, text := settled(t, m.(*machine), specs[i].ConsoleLog, drawn)
		told[i] = fmt.Sprintf("%s\n%s", state, text)
	}
	return told
}

// settled waits until nothing more will happen by itself before the network.
func settled(t *testing.T, m *machine, log string, l life) (hypervisor.State, string) {
	t.Helper()
	wantState, last := hypervisor.Running, ""
	var took time.Duration
	for _, stage := range []string{StageBoot, StageModules, StageNetwork} {
		took += l[stage].delay
		switch l[stage].failure {
		case Panics, OutOfMemory:
			wantState = hypervisor.Crashed
		case PowersOff:
			wantState = hypervisor.Stopped
		case Hangs:
		}
		if last = string(l[stage].failure); last != "" {
			break
		}
	}
	eventually(t, func() error {
		state := m.current()
		if state != wantState {
			return fmt.Errorf("state %s, want %s after %q", state, wantState, last)
		}
		if m.uptime() != took {
			return fmt.Errorf("up for %s, want %s", m.uptime(), took)
		}
		if m.hung.Load() != (last == string(Hangs)) {
			return fmt.Errorf("hung: %t, its life has %q", m.hung.Load(), last)
		}
		return nil
	})
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return m.current(), string(text)
}

func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(err)
		}
	}
}

// TestSameSeedSameLives: what guests say, when, and how they end follows from the seed alone.
func TestSameSeedSameLives(t *testing.T) {
	flaky := fixture(t, "flaky.json")
	const guests = 60
	first := lives(t, Config{Lifecycle: flaky, Seed: 42}, guests)
	second := lives(t, Config{Lifecycle: flaky, Seed: 42}, guests)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the same seed, other lives:\n%s", diff)
	}
	if other := lives(t, Config{Lifecycle: flaky, Seed: 43}, guests); cmp.Equal(first, other) {
		t.Error("another seed, the same lives")
	}
	all := strings.Join(first, "\n")
	for _, want := range []string{
		`^crashed\n\[ .*\] BUG: .*\n\[ .*\] Kernel panic - not syncing: Fatal`, // at boot
		`^crashed\n\[ .*\] Out of memory: `,
		`^crashed\n@cloudtwin {"stage":"booted",.*\n\[ .*\] BUG: `, // with modules
		`^stopped\n@cloudtwin {"stage":"booted",.*\n@cloudtwin {"stage":"modules","t":[23]\.`,
		`^running\n\n`, // hung at boot
	} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(all) {
			t.Errorf("no life is like %s:\n%s", want, all)
		}
	}
}

// TestModelledTime: delays take no real time, and the milestones tell them.
func TestModelledTime(t *testing.T) {
	slow := Lifecycle{Stages: []Stage{
		{Name: StageBoot, Delay: Duration{50 * time.Minute}}, {Name: StageModules, Delay: Duration{30 * time.Minute}},
	}}
	told := lives(t, Config{Lifecycle: slow}, 1)[0]
	want := "running\n" + `@cloudtwin {"stage":"booted","t":3000.000}` + "\n" +
		`@cloudtwin {"stage":"modules","t":4800.000}` + "\n"
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTooLittleMemory: a guest smaller than its lifecycle needs does not boot.
func TestTooLittleMemory(t *testing.T) {
	s := newSite(t, newFakeCloud(t), Config{Lifecycle: Lifecycle{Memory: Memory{BootMB: 97}}})
	spec, _ := s.spec(Web)
	m, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	text := readAll(t, m)
	if !strings.Contains(text, "Out of memory") || m.(*machine).current() != hypervisor.Crashed {
		t.Errorf("%s with console:\n%s", m.(*machine).current(), text)
	}
}

// readAll follows a console to its end.
func readAll(t *testing.T, m hypervisor.Machine) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	console, err := m.Console(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	text, err := io.ReadAll(console)
	if err != nil || ctx.Err() != nil {
		t.Fatalf("console: %v %v\n%s", err, ctx.Err(), text)
	}
	return string(text)
}

// TestHungGuestIgnoresItsButton, where another powers off.
func TestHungGuestIgnoresItsButton(t *testing.T) {
	always := Lifecycle{Stages: []Stage{{Name: StageModules, Failures: []Failure{{Kind: Hangs, Weight: 1}}}}}
	s := newSite(t, newFakeCloud(t), Config{Lifecycle: always})
	spec, _ := s.spec(Web)
	m, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if !m.(*machine).hung.Load() {
			return fmt.Errorf("does not hang")
		}
		return nil
	})
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.InsertMedium(t.Context(), s.cloud.medium(s.dir, spec.ID)); err != nil {
		t.Errorf("a hung guest's drive still takes a medium: %v", err)
	}
	if state, _ := m.State(t.Context()); state != hypervisor.Running {
		t.Errorf("it is %s", state)
	}
	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := `@cloudtwin {"stage":"booted","t":0.000}` + "\n"
	if got := readAll(t, m); got != want {
		t.Errorf("its console says %q, want %q", got, want)
	}
}

// TestDamagedRecord: a record that was cut short is of a machine that never began; the driver opens without it.
func TestDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"i-cut.json": `{"id":"i-c`, "i-other.json": `{"id":"i-another"}`, "notes.txt": "not ours",
		"i-good.json": `{"id":"i-good","console":"/nowhere/log","from":0}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	machines, err := d.List(t.Context())
	if err != nil || len(machines) != 1 || machines[0].ID() != "i-good" {
		t.Fatalf("found %v, %v", machines, err)
	}
	if state, _ := machines[0].State(t.Context()); state != hypervisor.Crashed {
		t.Errorf("it is %s", state)
	}
	if text := readAll(t, machines[0]); text != "" {
		t.Errorf("a log that is gone reads %q", text)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	_, err := New(Config{
		Programs: map[string]Program{"Upper Case": nil}, Lifecycle: Lifecycle{Stages: []Stage{{Name: "bios"}}},
	})
	for _, want := range []string{"Dir", "Upper Case", "stages[0]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
}

// TestNobodyHasLastWordsWhosePowerIsGone kills guests that say something as soon as they learn of their end.
func TestNobodyHasLastWordsWhosePowerIsGone(t *testing.T) {
	const guests = 100
	said := make(chan error, guests)
	s := newSite(t, newFakeCloud(t), Config{Programs: map[string]Program{Web: func(ctx context.Context, g *Guest) {
		for ctx.Err() == nil { // to learn of it as early as can be
			runtime.Gosched()
		}
		_, err := g.Write([]byte("last words"))
		said <- err
	}}})
	for range guests {
		spec, _ := s.spec(Web)
		m, err := s.Start(t.Context(), spec)
		if err == nil {
			err = m.Kill(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := <-said; !errors.Is(err, os.ErrClosed) {
			t.Fatalf("what %s wrote after its end came to %v, want that its console is closed", spec.ID, err)
		}
	}
}
