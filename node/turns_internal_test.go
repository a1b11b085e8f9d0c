package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Nodes are told apart by nothing but their names here: each turn is a lock of its own, as it is between processes.
func TestNodesOfOneHostTakeTurnsAtBooting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "boots")
	const cores = 2
	take := func(ctx context.Context, who string) (func(), error) {
		return takeBootTurn(ctx, dir, cores, who, slog.New(slog.DiscardHandler))
	}
	var done []func()
	for _, who := range []string{"node a", "node b"} {
		give, err := take(t.Context(), who)
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		done = append(done, give)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := take(short, "node c")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "node a") {
		t.Errorf("a third boot on two cores: %v; want that it waits, and who it waits for", err)
	}
	done[0]()
	third, err := take(t.Context(), "node c")
	if err != nil {
		t.Fatalf("when a turn was given on: %v", err)
	}
	third()
	done[1]()
}

func TestBootTurnsLieInAFolderOfThisUserAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "boots")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := takeBootTurn(t.Context(), dir, 1, "node a", nil); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder that anybody may write to: %v", err)
	}
}

func TestOnlyNodesThatBootGuestsTakeTurns(t *testing.T) {
	for guests, want := range map[GuestMode]bool{GuestsSim: false, GuestsFork: true, GuestsCold: true} {
		if got := bootTurn(Config{Guests: guests}, "a") != nil; got != want {
			t.Errorf("%s: takes turns %t, want %t", guests, got, want)
		}
	}
}
