package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// TestWritesAreTold makes a write of every sort, and some that fail, and looks at what was told of them.
func TestWritesAreTold(t *testing.T) {
	type key struct{}
	var (
		mu   sync.Mutex
		told []string
		last int64
	)
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(),
		Written: func(ctx context.Context, revision int64, changes []store.Write) {
			mu.Lock()
			defer mu.Unlock()
			if ctx.Value(key{}) == nil || revision <= last {
				t.Errorf("revision %d after %d, context %v", revision, last, ctx)
			}
			last = revision
			told = append(told, fmt.Sprint(changes))
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	ctx := context.WithValue(t.Context(), key{}, true)
	table, other := store.NewTable[int](s, "table"), store.NewTable[int](s, "other")
	wants := func(err error, fails bool) {
		t.Helper()
		if (err != nil) != fails {
			t.Errorf("error %v, fails: %v", err, fails)
		}
	}
	wants(table.Create(ctx, "a", 1), false)
	wants(table.Create(ctx, "a", 1), true)
	wants(table.Put(ctx, "a", 2), false)
	_, err = table.Update(ctx, "a", func(n *int) error { *n = 3; return nil })
	wants(err, false)
	_, err = table.Update(ctx, "b", func(*int) error { return nil })
	wants(err, true)
	wants(s.Txn(ctx, func(tx *store.Tx) error {
		_, err := table.In(tx).Get("a")
		return err
	}), false)
	wants(s.Txn(ctx, func(tx *store.Tx) error {
		if err := table.In(tx).Delete("a"); err != nil {
			return err
		}
		return other.In(tx).Put("b", 1)
	}), false)
	wants(other.Delete(ctx, "b"), false)
	wants(other.Delete(ctx, "b"), true)
	want := []string{"[{table/a false}]", "[{table/a false}]", "[{table/a false}]", "[{other/b false} {table/a true}]",
		"[{other/b true}]"}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
