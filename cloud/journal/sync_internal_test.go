package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestSyncedBeforeReturn lets a disk that counts say how much it had at every sync: whoever returns is in it.
func TestSyncedBeforeReturn(t *testing.T) {
	var file bytes.Buffer
	j := New(&file)
	var onDisk atomic.Int64
	j.sync = func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		onDisk.Store(int64(bytes.Count(file.Bytes(), []byte("\n"))))
		return nil
	}
	var done sync.WaitGroup
	for i := range 100 {
		done.Go(func() {
			if err := j.RecordSynced(t.Context(), Event{Subject: strconv.Itoa(i)}); err != nil {
				t.Error(err)
			}
			j.syncing.Lock()
			defer j.syncing.Unlock()
			if j.synced > uint64(onDisk.Load()) {
				t.Errorf("%d records count as synced, the disk has %d", j.synced, onDisk.Load())
			}
		})
	}
	done.Wait()
	if onDisk.Load() != 100 {
		t.Errorf("%d records on the disk, want 100", onDisk.Load())
	}
	fault := errors.New("input/output error")
	j.sync = func() error { return fault }
	if err := j.RecordSynced(t.Context(), Event{}); !errors.Is(err, fault) {
		t.Errorf("error %v, want the disk's", err)
	}
	j.sync = func() error { return nil }
	if err := j.RecordSynced(t.Context(), Event{}); err != nil {
		t.Errorf("after the fault: %v", err)
	}
}

func TestRequestFromMemoryAndFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(j *Journal, kind, id string) {
		if err := j.RecordSynced(t.Context(), Event{Kind: kind, Attributes: map[string]string{RequestID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	tell(j, "delivery.denied", "old")
	tell(j, "api.request", "old")
	tell(j, "api.request", "older") // holds the other's id
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash cut the last line short.
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := append(whole, `{"kind":"api.request","attributes":{"requestId":"old`+"\n"...)
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	tell(j, "api.request", "new")
	for id, want := range map[string]string{
		"old": "delivery.denied api.request", "new": "api.request", "none": "", "": "",
	} {
		events, err := j.Request(id)
		var kinds []string
		for _, ev := range events {
			kinds = append(kinds, ev.Kind)
		}
		if got := strings.Join(kinds, " "); err != nil || got != want {
			t.Errorf("events of %q: %q, %v; want %q", id, got, err, want)
		}
	}
	denied := func(ev *Event) bool { return ev.Kind == "delivery.denied" }
	if id, err := j.LastRequest(denied); id != "old" || err != nil {
		t.Errorf("last denied is %q, %v; want old", id, err)
	}
	tell(j, "delivery.denied", "newest")
	if id, err := j.LastRequest(denied); id != "newest" || err != nil {
		t.Errorf("last denied is %q, %v; want newest", id, err)
	}
	now, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(now, whole) {
		t.Errorf("what was written has changed (%v)", err)
	}
}

// TestAFileThatDoesNotGetToTheDisk puts one aside that the disk does not take.
func TestAFileThatDoesNotGetToTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := os.Open(path)
	if err = errors.Join(err, bad.Close()); err != nil {
		t.Fatal(err)
	}
	f := j.c.(*file)
	if err := j.RecordSynced(t.Context(), Event{Kind: "before"}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.full = append(f.full, bad)
	f.mu.Unlock()
	for range 2 {
		if err := j.RecordSynced(t.Context(), Event{Kind: "delivery.granted"}); err == nil {
			t.Error("a record counts as safe while what was before it may be lost")
		}
	}
	if err := j.Close(); err == nil {
		t.Error("nobody is told of it at the end")
	}
}
