package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

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
