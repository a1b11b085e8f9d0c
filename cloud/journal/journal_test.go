package journal_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFollowSeesPastAndFuture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	j.Record(ctx, journal.Event{Kind: "test", Subject: "0"})
	events := j.Follow(ctx)
	for i := range 20 {
		if got := <-events; got.Subject != strconv.Itoa(i) {
			t.Fatalf("event %q, want %d", got.Subject, i)
		}
		j.Record(ctx, journal.Event{Kind: "test", Subject: strconv.Itoa(i + 1)})
	}
	cancel()
	for range events {
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if n := lines(t, path); n != 21 {
		t.Errorf("%d lines in the file, want 21", n)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v, want 0600", info.Mode().Perm())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	j := journal.New(discard{})
	const n = 25_000
	for i := range n {
		j.Record(t.Context(), journal.Event{Subject: strconv.Itoa(i)})
	}
	events := j.Events()
	if len(events) > 10_000 || events[len(events)-1].Subject != strconv.Itoa(n-1) {
		t.Errorf("%d events kept, the last is %s", len(events), events[len(events)-1].Subject)
	}
}

func TestNilJournalDrops(t *testing.T) {
	var j *journal.Journal
	j.Record(t.Context(), journal.Event{Kind: "test"})
	if err := j.Close(); err != nil || j.Events() != nil {
		t.Errorf("Close: %v, Events: %v", err, j.Events())
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func lines(t *testing.T, path string) (n int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		var ev journal.Event
		if err := json.Unmarshal(s.Bytes(), &ev); err != nil || ev.Time.IsZero() {
			t.Errorf("line %d: %+v, %v", n, ev, err)
		}
	}
	return n
}
