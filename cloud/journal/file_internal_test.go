package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestTheAuditIsNeverDropped writes much more than two files hold and finds every decision about a delivery.
func TestTheAuditIsNeverDropped(t *testing.T) {
	const limit, events, decisions = 4 << 10, 1000, 100
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		ev := Event{Kind: "test", Subject: fmt.Sprint(i)}
		if i%(events/decisions) == 0 {
			ev = Event{Kind: "delivery.denied", Subject: fmt.Sprint(i / (events / decisions))}
		}
		if err := j.RecordSynced(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	next := 0
	err = j.scan(func([]byte) bool { return true }, func(ev Event) {
		if ev.Kind != "delivery.denied" {
			return
		}
		if ev.Subject != fmt.Sprint(next) {
			t.Errorf("decision %s, want %d: one is lost or out of order", ev.Subject, next)
		}
		next++
	})
	if err != nil || next != decisions {
		t.Errorf("%d decisions, %v, want all %d", next, err, decisions)
	}
	if info, err := os.Stat(auditOf(path)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("audit: %v, %v, want mode 0600", info, err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestFilesAreBounded writes much more than two files hold, with many who wait for the disk, and finds the latest
// events in the two files that are left.
func TestFilesAreBounded(t *testing.T) {
	const limit, writers, each = 4 << 10, 8, 50
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				ev := Event{Kind: "test", Subject: fmt.Sprintf("%d-%d", w, i)}
				if err := j.RecordSynced(t.Context(), ev); err != nil {
					t.Errorf("record: %v", err)
				}
			}
		})
	}
	writing.Wait()
	last := Event{Kind: "test", Attributes: map[string]string{RequestID: "the last"}}
	if err := j.RecordSynced(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	seen := 0
	if err := j.scan(func([]byte) bool { return true }, func(Event) { seen++ }); err != nil {
		t.Fatal(err)
	}
	if total := writers*each + 1; seen == 0 || seen >= total {
		t.Errorf("%d of %d events are in the files, want the latest and no more than two files hold", seen, total)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Fatalf("files: %v, %v, want two", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Size() > limit || info.Mode().Perm() != 0o600 {
			t.Errorf("file %s: %v, %v, want at most %d bytes and mode 0600", e.Name(), info, err, limit)
		}
	}
}
