package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/scale"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNames pins the names that what compares runs goes by.
func TestNames(t *testing.T) {
	all := names()
	seen := map[string]bool{}
	for _, name := range all {
		if seen[name] {
			t.Errorf("%s twice", name)
		}
		seen[name] = true
	}
	for _, name := range []string{
		"start.cold.first_handshake", "start.cold.ten_at_once", "boot.bare.floppy_read", "delivery.profile2.rate",
		"delivery.profile2.p99", "api.GetCallerIdentity.rate", "api.GetRole.rate",
		"api.ListRoles.1000.rate", "api.AssumeRole.rate", "api.AssumeRole.p99", "api.GetRole.bytes",
		"api.DescribeInstances.1000.rate", "cloud.start",
		"start.cold.stage.booted", "start.cold.stage.medium-read", "start.cold.stage.handshake",
		"start.fork.first_handshake", "start.fork.pooled.first_handshake", "start.fork.ten_at_once",
		"start.fork.stage.medium-read", "start.sim.first_handshake", "fork.bare.floppy_read", "density.200.pss_per_lbvm",
		"scale.1000.seconds", "scale.5000.seconds", "scale.20000.seconds", "scale.20000.delivery_p99", "scale.20000.rss",
	} {
		if !seen[name] {
			t.Errorf("no result is named %s", name)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		name             string
		value, reference float64
		aim              aim
		want             string
	}{
		{"no aim", 1, 2, aim{}, ""},
		{"short enough", 1.4, 1, atMost(1.4), "<= 1.4"},
		{"too long", 1.5, 1, atMost(1.4), "<= 1.4 MISSED"},
		{"fast enough", 5, 10, atLeast(0.5), ">= 0.5"},
		{"too slow", 4, 10, atLeast(0.5), ">= 0.5 MISSED"},
		{"peer of zero", 4, 0, atLeast(0.5), ""},
		{"within a limit", 4, 0, aim{}.within(4), "<= 4 s"},
		{"ratio kept, limit not", 4, 8, atMost(0.5).within(3), "<= 0.5, <= 3 s MISSED"},
		{"limit kept, ratio not", 4, 7, atMost(0.5).within(5), "<= 0.5, <= 5 s MISSED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := result{Name: "x", Value: tt.value, Unit: seconds}.against("peer", tt.reference, tt.aim)
			if got := r.verdict(); got != tt.want {
				t.Errorf("verdict %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRunChoosesAndGoesOn(t *testing.T) {
	boom := errors.New("boom")
	give := func(names ...string) func(context.Context, *suite) error {
		return func(_ context.Context, s *suite) error {
			for _, n := range names {
				s.emit(result{Name: n, Value: 2, Unit: seconds}.against("one", 1, atMost(1.5)))
			}
			return nil
		}
	}
	all := []benchmark{
		{[]string{"a.bad"}, func(context.Context, *suite) error { return boom }},
		{[]string{"a.one", "b.two"}, give("a.one", "b.two")},
		{[]string{"c"}, func(context.Context, *suite) error { t.Error("not asked for"); return nil }},
	}
	var out bytes.Buffer
	s := &suite{only: regexp.MustCompile("^a"), table: newTable(&out)}
	failures := s.run(t.Context(), all)
	if len(failures) != 1 || !errors.Is(failures[0], boom) {
		t.Errorf("failures %v", failures)
	}
	if text := out.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "a.one") ||
		!strings.Contains(text, "2.00  <= 1.5 MISSED") {
		t.Errorf("table:\n%s", text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if failures := s.run(ctx, all); len(failures) != 1 || !errors.Is(failures[0], context.Canceled) {
		t.Errorf("interrupted, the failures are %v", failures)
	}
}

func TestWriteJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "artifacts", "bench.json")
	if err := writeJSON(path, []result{
		{Name: "alone", Value: 1.5, Unit: seconds},
		result{Name: "beside", Value: 3, Unit: perSecond}.against("peer", 6, atLeast(1)),
	}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"name": "alone", "value": 1.5, "unit": "s", "reference": "", "reference_value": nil, "ratio": nil},
		{"name": "beside", "value": 3.0, "unit": "1/s", "reference": "peer", "reference_value": 6.0, "ratio": 0.5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestBeside: measuring a part leaves the other results of the file.
func TestBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	names := func(results []result) (s string) {
		for _, r := range results {
			s += fmt.Sprintf("%s=%v ", r.Name, r.Value)
		}
		return s
	}
	now := []result{{Name: "b", Value: 3}, {Name: "c", Value: 4}}
	if got, err := beside(path, now); err != nil || names(got) != "b=3 c=4 " {
		t.Errorf("without a file: %s, %v", names(got), err)
	}
	if err := writeJSON(path, []result{{Name: "a", Value: 1}, {Name: "b", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	if got, err := beside(path, now); err != nil || names(got) != "a=1 b=3 c=4 " {
		t.Errorf("beside others: %s, %v", names(got), err)
	}
	if err := os.WriteFile(path, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := beside(path, now); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is no JSON gives %v", err)
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"list", []string{"--list"}, exitOK, "cloud.start\n"},
		{"no such flag", []string{"--fast"}, exitUsage, "--fast"},
		{"bad pattern", []string{"--only", "("}, exitUsage, "only"},
		{"no such name", []string{"--only", "nothing"}, exitUsage, "no result has a name like nothing"},
		{"argument", []string{"cloud.start"}, exitUsage, "takes no arguments"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(tt.args, &out, &out); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(strings.ReplaceAll(out.String(), " -", " --"), tt.says) {
				t.Errorf("it says %q, want %q in it", out.String(), tt.says)
			}
		})
	}
}

func TestExitCode(t *testing.T) {
	product, machine := errors.New("denied"), errors.Join(hypervisor.ErrUnavailable)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name     string
		ctx      context.Context
		failures []error
		want     int
	}{
		{"none", t.Context(), nil, exitOK},
		{"product", t.Context(), []error{product}, exitProduct},
		{"machine", t.Context(), []error{machine}, exitInfrastructure},
		{"both", t.Context(), []error{machine, product}, exitProduct},
		{"interrupted", canceled, []error{product}, exitInterrupted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := exitCode(tt.ctx, tt.failures); got != tt.want {
				t.Errorf("exit code %d, want %d", got, tt.want)
			}
		})
	}
}

func TestStatistics(t *testing.T) {
	times := make([]time.Duration, 100)
	for i := range times {
		times[i] = time.Duration(100-i) * time.Second
	}
	for p, want := range map[float64]time.Duration{99: 99 * time.Second, 50: 50 * time.Second, 100: 100 * time.Second} {
		if got := percentile(times, p); got != want {
			t.Errorf("%g%% is %s, want %s", p, got, want)
		}
	}
	if got := percentile([]time.Duration{7}, 99); got != 7 {
		t.Errorf("of one the 99%% is %d", got)
	}
	if got := median([]time.Duration{9, 1, 5}); got != 5 {
		t.Errorf("median %d", got)
	}
}

func TestLoad(t *testing.T) {
	boom := errors.New("boom")
	var done [500]atomic.Int32
	r, took, err := spread(t.Context(), 3, len(done), func(i int) error { done[i].Add(1); return nil })
	if err != nil || r.count != len(done) || len(took) != len(done) {
		t.Errorf("%d done, %d times, %v", r.count, len(took), err)
	}
	for i := range done {
		if n := done[i].Load(); n != 1 {
			t.Errorf("piece %d was done %d times", i, n)
		}
	}
	if _, _, err := spread(t.Context(), 2, 10, func(int) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	var worked atomic.Int64
	r, err = drive(t.Context(), 2, 5*time.Millisecond, func(int) error { worked.Add(1); return nil })
	if err != nil || int64(r.count) != worked.Load() || r.took < 5*time.Millisecond {
		t.Errorf("counted %d of %d in %s, %v", r.count, worked.Load(), r.took, err)
	}
	if _, err := drive(t.Context(), 2, time.Minute, func(int) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
}

// TestStages shows that the stages add up to the whole, also when a landmark was not seen.
func TestStages(t *testing.T) {
	begun := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	event := func(stage string, after time.Duration) journal.Event {
		return journal.Event{Time: begun.Add(time.Hour), Kind: "guest.milestone", Attributes: map[string]string{
			"stage": stage, "at": begun.Add(after).Format(time.RFC3339Nano)}}
	}
	c := start{asked: begun, handshaken: begun.Add(3 * time.Second), events: []journal.Event{
		event("machine-started", 400*time.Millisecond), event("booted", 1400*time.Millisecond),
		event("medium-read", 1900*time.Millisecond),
		{Time: begun.Add(2500 * time.Millisecond), Kind: "delivery.granted"}, event("serving", 2900*time.Millisecond),
	}}
	bare := map[string]time.Duration{"booted": 800 * time.Millisecond, "medium-read": 1200 * time.Millisecond}
	got, sum := map[string]string{}, 0.0
	for _, r := range c.stages(nameStages, bare) {
		got[strings.TrimPrefix(r.Name, nameStages)] = figure(&r.Value) + " " + figure(r.ReferenceValue)
		sum += r.Value
	}
	want := map[string]string{"machine-started": "0.4 ", "booted": "1 0.8", "medium-read": "0.5 0.4", "delivered": "0.6 ",
		"serving": "0.4 ", "handshake": "0.1 "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if figure(&sum) != "3" {
		t.Errorf("the stages add up to %g", sum)
	}
}

func TestScaleResults(t *testing.T) {
	got := map[string]string{}
	for _, r := range scaleResults(scale.Report{Rows: []scale.Row{
		{LoadBalancers: 1000, Seconds: 20, DeliveryP99Millis: 10}, {LoadBalancers: 5000, Seconds: 70, DeliveryP99Millis: 20},
		{LoadBalancers: 20000, Seconds: 400, DeliveryP99Millis: 60, PeakRSSMB: 8000, GuestKB: 300},
	}}) {
		got[r.Name] = figure(&r.Value) + " " + figure(r.ReferenceValue) + " " + r.verdict()
	}
	want := map[string]string{
		"scale.1000.seconds": "20  ", "scale.5000.seconds": "90 100 <= 1.25",
		"scale.20000.seconds":      "490 400 <= 1.25, <= 600 s",
		"scale.20000.delivery_p99": "0.06 0.01 <= 0.05 s MISSED", "scale.20000.rss": "8000 5859 <= 16384 MB",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWatcher(t *testing.T) {
	events := make(chan journal.Event)
	w := watch(events)
	serving := journal.Event{Kind: "guest.milestone", Subject: "i-1", Attributes: map[string]string{"stage": "serving"}}
	failed := journal.Event{Kind: "guest.milestone", Subject: "i-2",
		Attributes: map[string]string{"stage": "failed", "reason": "no floppy"}}
	denied := journal.Event{Kind: "delivery.denied", Attributes: map[string]string{"instance": "i-3", "reason": "replay"}}
	go func() {
		for _, ev := range []journal.Event{serving, failed, denied} {
			events <- ev
		}
	}()
	if err := w.await(t.Context(), "i-1", milestone("serving")); err != nil {
		t.Error(err)
	}
	for instance, why := range map[string]string{"i-2": "no floppy", "i-3": "replay"} {
		if err := w.await(t.Context(), instance, milestone("serving")); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: error %v, want %q in it", instance, err, why)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.await(ctx, "i-4", milestone("serving")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(events)
	if err := w.await(t.Context(), "i-4", milestone("serving")); err == nil {
		t.Error("waited for a journal that ended")
	}
}

func TestStageOf(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"milestone", `@cloudtwin {"stage":"booted","t":1.2}`, "booted"},
		{"behind a message", `[ 1.0] hm @cloudtwin {"stage":"network","t":1.2,"addr":"10.0.2.15"}`, "network"},
		{"message", "[ 1.0] random: crng init done", ""},
		{"no JSON", "@cloudtwin {", ""},
		{"no stage", `@cloudtwin {"t":1}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := stageOf(tt.line); got != tt.want || ok != (tt.want != "") {
				t.Errorf("%q, %t", got, ok)
			}
		})
	}
}

func TestCryptoLimit(t *testing.T) {
	ca, err := pki.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server(pki.P256, hostname)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newCryptoLimit(pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.once(); err != nil {
		t.Error(err)
	}
	sealed, err := seal(l.lbECDH.PublicKey(), pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := sealed.open(l.lbECDH); err != nil || !bytes.Equal(opened, pair.KeyPEM) {
		t.Errorf("what was sealed does not open: %v", err)
	}
	if _, err := sealed.open(l.iamECDH); err == nil {
		t.Error("another key opens it")
	}
	l.requestSig[len(l.requestSig)-1] ^= 1
	if err := l.once(); err == nil {
		t.Error("a bad signature passes")
	}
}
