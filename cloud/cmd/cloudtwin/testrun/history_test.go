package testrun

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
)

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "tests.db")
	h, err := OpenHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	flaky, steady, old := Spec{"p", "flaky"}, Spec{"p", "steady"}, Spec{"p", "old"}
	add := func(guests string, at time.Time, results ...Result) {
		t.Helper()
		if err := h.Add(guests, results, at); err != nil {
			t.Fatal(err)
		}
	}
	failed := Result{Spec: flaky, Outcome: Failed, Cause: verdict.Cause{What: "it hung"}}
	add("fork", now.Add(-200*24*time.Hour), Result{Spec: old, Outcome: Failed})
	for i := range 300 {
		result := Result{Spec: flaky, Outcome: Passed, Duration: time.Duration(i) * time.Second}
		if i%100 == 99 {
			result = failed
		}
		add("fork", now, result, Result{Spec: steady, Outcome: Passed, Duration: 2 * time.Second},
			Result{Spec: steady, Outcome: Skipped}, Result{Spec: steady, Outcome: NotRun}, Result{Suite: true, Outcome: Failed})
	}
	add("fork", now, Result{Spec: steady, Outcome: Broken})
	add("sim", now, Result{Spec: flaky, Outcome: Passed})
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if h, err = OpenHistory(path); err != nil { // it outlives its process
		t.Fatal(err)
	}
	records, err := h.Records("fork")
	if err != nil {
		t.Fatal(err)
	}
	want := []Record{
		{Spec: flaky, Guests: "fork", Runs: 200, Failures: 2, Typical: 294 * time.Second, LastFailure: now, Cause: "it hung"},
		{Spec: steady, Guests: "fork", Runs: 200, Streak: 200, Infrastructure: 1, Typical: 2 * time.Second},
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if all, err := h.Records(""); err != nil || len(all) != 3 {
		t.Errorf("%d records of all kinds, %v", len(all), err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	if err := Stats(&said, path, "fork"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"p: flaky [fork]", "failed in 2 of its last 200 runs (1.0 %): 299 passes", "it hung",
		"2 specs are known, 1 of them have failed"} {
		if !strings.Contains(said.String(), text) {
			t.Errorf("%q is not said:\n%s", text, &said)
		}
	}
}

func TestHistoryThatIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tests.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err := OpenHistory(path); !errors.Is(err, ErrTools) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, %v", h, err)
	}
}
