package sim

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fixtureDir holds lifecycles.
const fixtureDir = "../../../fixtures/guests"

// fixture loads a lifecycle of the fixtures.
func fixture(t testing.TB, name string) Lifecycle {
	t.Helper()
	l, err := LoadLifecycle(filepath.Join(fixtureDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestFixtures(t *testing.T) {
	entries, err := os.ReadDir(fixtureDir)
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		loaded++
		if l := fixture(t, e.Name()); l.Name+".json" != e.Name() {
			t.Errorf("%s is called %q", e.Name(), l.Name)
		}
	}
	if loaded < 3 {
		t.Errorf("%d lifecycles, want at least instant, tcg-cold and flaky", loaded)
	}
	instant := fixture(t, "instant.json")
	instant.Comment = ""
	if diff := cmp.Diff(Lifecycle{}.withDefaults(), instant); diff != "" {
		t.Errorf("instant.json is not the default (-default +file):\n%s", diff)
	}
}

func TestParseLifecycleRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // what the error must name
	}{
		{"no JSON", `{`, []string{"parse lifecycle"}},
		{"unknown field", `{"stage": []}`, []string{`unknown field "stage"`}},
		{"two objects", `{} {}`, []string{"something follows"}},
		{"unknown stage", `{"stages":[{"stage":"bios"}]}`, []string{"stages[0].stage", `"bios"`, "boot, modules"}},
		{"wrong order", `{"stages":[{"stage":"network"},{"stage":"boot"}]}`, []string{"stages[1].stage", "in the order"}},
		{"twice", `{"stages":[{"stage":"boot"},{"stage":"boot"}]}`, []string{"stages[1].stage", "at most once"}},
		{"delay without a unit", `{"stages":[{"stage":"boot","delay":"3"}]}`, []string{`"3"`, "no duration"}},
		{"delay as a number", `{"stages":[{"stage":"boot","delay":3}]}`, []string{"3", "no duration"}},
		{"delay below 0", `{"stages":[{"stage":"boot","delay":"-1s"}]}`, []string{"stages[0] (boot)", "delay -1s", "1h"}},
		{"delay too long", `{"stages":[{"stage":"boot","delay":"2h"}]}`, []string{"delay 2h"}},
		{"jitter above delay", `{"stages":[{"stage":"boot","delay":"1s","jitter":"2s"}]}`,
			[]string{"jitter 2s", "the delay"}},
		{"weight above 1", `{"stages":[{"stage":"boot","failures":[{"kind":"hang","weight":1.5}]}]}`,
			[]string{"failures[0].weight 1.5", "0 to 1"}},
		{"weights above 1", `{"stages":[{"stage":"boot","failures":[{"kind":"hang","weight":0.6},
			{"kind":"panic","weight":0.6}]}]}`, []string{"weights are 1.2 together"}},
		{"unknown failure", `{"stages":[{"stage":"boot","failures":[{"kind":"explode","weight":0.1}]}]}`,
			[]string{"failures[0].kind", `"explode"`, "out-of-memory"}},
		{"memory", `{"memory":{"bootMB":-1,"fixedMB":99999,"percent":2000}}`,
			[]string{"memory.bootMB -1", "memory.fixedMB 99999", "memory.percent 2000"}},
		{"name", `{"name":"` + strings.Repeat("x", 65) + `"}`, []string{"name", "64"}},
		{"boot timeout", `{"bootTimeout":"-1s"}`, []string{"bootTimeout -1s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseLifecycle([]byte(tt.text))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not name %q: %v", want, err)
				}
			}
		})
	}
}

func TestLoadLifecycleNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(path, []byte(`{"stages":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, missing := range []string{path, path + ".not"} {
		if _, err := LoadLifecycle(missing); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("error does not name %s: %v", missing, err)
		}
	}
}

// TestDraw: delays within their jitter, failures as often as their weights say, all of it decided by the seed.
func TestDraw(t *testing.T) {
	flaky := fixture(t, "flaky.json")
	const guests = 20000
	failed := map[string]float64{}
	for n := range uint64(guests) {
		drawn := flaky.draw(7, n)
		if diff := cmp.Diff(drawn, flaky.draw(7, n), cmp.AllowUnexported(step{})); diff != "" {
			t.Fatalf("guest %d has two lives:\n%s", n, diff)
		}
		for _, s := range flaky.Stages {
			one := drawn[s.Name]
			if off := (one.delay - s.Delay.Duration).Abs(); off > s.Jitter.Duration {
				t.Fatalf("%s takes %s, that is %s off", s.Name, one.delay, off)
			}
			failed[s.Name+" "+string(one.failure)]++
		}
	}
	for _, s := range flaky.Stages {
		for _, f := range s.Failures {
			got := failed[s.Name+" "+string(f.Kind)] / guests
			if math.Abs(got-f.Weight) > 0.01 {
				t.Errorf("%s: %s for %.3f of all guests, want %.3f", s.Name, f.Kind, got, f.Weight)
			}
		}
	}
	if cmp.Equal(flaky.draw(7, 1), flaky.draw(8, 1), cmp.AllowUnexported(step{})) {
		t.Error("another seed gives the same life")
	}
}

func TestDurationRoundTrip(t *testing.T) {
	want := Stage{Name: StageBoot, Delay: Duration{1500 * time.Millisecond}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Stage
	if err := json.Unmarshal(text, &got); err != nil || got.Delay != want.Delay {
		t.Errorf("%s becomes %v, %v", text, got, err)
	}
}

// FuzzParseLifecycle: whatever a file holds, what is accepted can be lived.
func FuzzParseLifecycle(f *testing.F) {
	for _, name := range []string{"instant.json", "tcg-cold.json", "flaky.json"} {
		data, err := os.ReadFile(filepath.Join(fixtureDir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLifecycle(data)
		if err != nil {
			return
		}
		for name, s := range l.withDefaults().draw(1, 1) {
			if s.delay < 0 || s.delay > 2*maxDelay {
				t.Errorf("%s takes %s", name, s.delay)
			}
		}
	})
}
