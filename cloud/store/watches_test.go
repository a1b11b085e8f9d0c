package store_test

import (
	"context"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// TestManyWatchesEndTogether ends more watches at once than one stream of etcd's client takes, again and again, and
// sees each of them end. The test's own time limit tells when one does not.
func TestManyWatchesEndTogether(t *testing.T) {
	s := open(t)
	table := store.NewTable[string](s, "watched")
	const rounds, watches = 10, 40
	for range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var ends []<-chan string
		for range watches {
			keys, err := table.WatchKeys(ctx)
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, keys)
		}
		cancel()
		for _, keys := range ends {
			for range keys { // until it is closed
			}
		}
	}
}

// TestWhatAWatchTellsIsThere reads again because of each change, as caches do: it must not get what was before.
func TestWhatAWatchTellsIsThere(t *testing.T) {
	s := open(t)
	table := store.NewTable[int](s, "numbers")
	keys, err := table.WatchKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const writes = 3000
	written := make(chan error, 1)
	go func() {
		for i := range writes {
			if err := table.Put(t.Context(), "n", i); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for i := range writes {
		<-keys
		if n, err := table.Get(t.Context(), "n"); err != nil || n < i {
			t.Fatalf("after change %d there is %d, %v", i, n, err)
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}
