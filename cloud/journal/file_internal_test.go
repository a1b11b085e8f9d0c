package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTheAuditIsNeverDropped writes much more than the files hold and finds every decision about a delivery.
func TestTheAuditIsNeverDropped(t *testing.T) {
	const events, decisions = 1000, 100
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, limits{file: 4 << 10, kept: 4 << 10})
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
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(auditOf(path)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("audit: %v, %v, want mode 0600", info, err)
	}
}

// TestFilesAreCompressedWhenThereIsCalm puts files aside and looks at them before and after a while without more, and
// when there are too many to wait.
func TestFilesAreCompressedWhenThereIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.jsonl")
		j, err := openLimited(path, limits{file: 300, kept: keptFiles})
		if err != nil {
			t.Fatal(err)
		}
		plainOnes := func() (plain, all int) {
			synctest.Wait()
			list, err := parts(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range list {
				if p.plain {
					plain++
				}
			}
			return plain, len(list)
		}
		tell := func(files int) {
			for begun, n := time.Now(), 0; n < files; n++ {
				j.Record(t.Context(), Event{Time: begun, Kind: "test", Subject: strings.Repeat("x", 200)})
			}
		}
		synctest.Wait() // it has looked for what an earlier process left
		tell(5)
		if plain, all := plainOnes(); all != 4 || plain != all {
			t.Errorf("%d of %d files wait right after they were put aside, want all 4", plain, all)
		}
		<-time.After(calm)
		if plain, all := plainOnes(); all != 4 || plain != 0 {
			t.Errorf("%d of %d files wait when there was calm, want none of 4", plain, all)
		}
		tell(mostToWait)
		if plain, all := plainOnes(); all != 4+mostToWait || plain != 0 {
			t.Errorf("%d of %d files wait when they are too many, want none of %d", plain, all, 4+mostToWait)
		}
		tell(2)
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if plain, all := plainOnes(); plain != 0 || all != 6+mostToWait {
			t.Errorf("%d of %d files wait after the end, want none of %d", plain, all, 6+mostToWait)
		}
	})
}

// TestFilesAreBounded writes much more than the files hold, with many who wait for the disk, and finds the latest
// events in the files that are left.
func TestFilesAreBounded(t *testing.T) {
	const limit, kept, writers, each = 4 << 10, 6 << 10, 8, 250
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, limits{file: limit, kept: kept})
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
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	seen, end := 0, Event{}
	if err := Read(path, func(ev Event) { seen, end = seen+1, ev }); err != nil {
		t.Fatal(err)
	}
	if total := writers*each + 1; seen == 0 || seen >= total || end.Attributes[RequestID] != "the last" {
		t.Errorf("%d of %d events are in the files, the last is %+v; want the latest and no more than the files hold", seen,
			total, end)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Size() > limit || info.Mode().Perm() != 0o600 {
			t.Errorf("file %s: %v, %v, want at most %d bytes and mode 0600", e.Name(), info, err, limit)
			continue
		}
		total += info.Size()
	}
	if total > limit+kept {
		t.Errorf("the journal takes %d bytes, want at most %d", total, limit+kept)
	}
}
