package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func TestTrouble(t *testing.T) {
	type record struct{ N int }
	var trouble atomic.Pointer[store.Trouble]
	asked := func(ctx context.Context, write bool) (bool, error) {
		if now := trouble.Load(); now != nil {
			return (*now)(ctx, write)
		}
		return false, nil
	}
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Trouble: asked})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	table := store.NewTable[record](s, "records")
	writes := map[string]func(n int) error{
		"put":    func(n int) error { return table.Put(t.Context(), "put", record{n}) },
		"create": func(n int) error { return table.Create(t.Context(), "create", record{n}) },
		"update": func(n int) error {
			_, err := table.Update(t.Context(), "old", func(r *record) error { r.N = n; return nil })
			return err
		},
		"transaction": func(n int) error {
			return s.Txn(t.Context(), func(tx *store.Tx) error { return table.In(tx).Put("transaction", record{n}) })
		},
		"delete": func(int) error { return table.Delete(t.Context(), "delete") },
	}
	tests := []struct {
		name      string
		committed bool
		err       error
	}{{"refused", false, store.ErrUnreachable}, {"kept all the same", true, store.ErrLeaderLost}}
	for _, tt := range tests {
		for name, write := range writes {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				trouble.Store(nil)
				for _, key := range []string{"old", "delete"} {
					if err := table.Put(t.Context(), key, record{}); err != nil {
						t.Fatal(err)
					}
				}
				for _, key := range []string{"put", "create", "transaction"} {
					_ = table.Delete(t.Context(), key) // it may not be there
				}
				bad := store.Trouble(func(_ context.Context, write bool) (bool, error) {
					if !write {
						return false, nil
					}
					return tt.committed, tt.err
				})
				trouble.Store(&bad)
				if err := write(7); !errors.Is(err, tt.err) {
					t.Fatalf("error %v, want %v", err, tt.err)
				}
				trouble.Store(nil)
				key := name
				if name == "update" {
					key = "old"
				}
				got, err := table.Get(t.Context(), key)
				done := err == nil && got.N == 7
				if name == "delete" {
					done = errors.Is(err, store.ErrNotFound)
				}
				if done != tt.committed {
					t.Errorf("the write was done: %v, want %v (%v, %v)", done, tt.committed, got, err)
				}
			})
		}
	}
	bad := store.Trouble(func(context.Context, bool) (bool, error) { return false, store.ErrUnreachable })
	trouble.Store(&bad)
	if _, err := table.Get(t.Context(), "old"); !errors.Is(err, store.ErrUnreachable) {
		t.Errorf("read: error %v, want ErrUnreachable", err)
	}
}
