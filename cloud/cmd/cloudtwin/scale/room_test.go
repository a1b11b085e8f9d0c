package scale

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func TestOpenRoomSweepsWhatKilledProcessesLeft(t *testing.T) {
	parent := t.TempDir()
	live, err := openRoom(parent)
	if err != nil {
		t.Fatal(err)
	}
	dead, unlocked, foreign := filepath.Join(parent, roomPrefix+"dead"), filepath.Join(parent, roomPrefix+"new"),
		filepath.Join(parent, "another")
	for _, dir := range []string{dead, unlocked, foreign} {
		if err := os.MkdirAll(filepath.Join(dir, "node"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dead, roomLock), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := openRoom(parent)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{live.path: true, next.path: true, dead: false, unlocked: true, foreign: true} {
		if got := exists(path); got != want {
			t.Errorf("%s is there: %t, want %t", filepath.Base(path), got, want)
		}
	}
	if err := sweepRooms(parent, time.Now().Add(2*roomStart)); err != nil {
		t.Fatal(err)
	}
	if exists(unlocked) {
		t.Error("a folder without a lock stayed")
	}
	for _, r := range []*room{live, next} {
		if err := r.close(); err != nil || exists(r.path) {
			t.Errorf("close: %v, the folder is there: %t", err, exists(r.path))
		}
	}
}

func TestRoomsLockEndsWithItsProcess(t *testing.T) {
	r, err := openRoom(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other := flock.New(filepath.Join(r.path, roomLock))
	if ok, err := other.TryLock(); ok || err != nil {
		t.Fatalf("another took the lock: %t, %v", ok, err)
	}
	if err := r.lock.Close(); err != nil { // as the kernel does
		t.Fatal(err)
	}
	if err := sweepRooms(filepath.Dir(r.path), time.Now()); err != nil || exists(r.path) {
		t.Errorf("sweep: %v, the folder is there: %t", err, exists(r.path))
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
