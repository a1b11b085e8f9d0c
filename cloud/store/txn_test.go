package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// TestTxnReadsItsOwnWrites makes one transaction write, read, delete and create again.
func TestTxnReadsItsOwnWrites(t *testing.T) {
	s := open(t)
	ctx, table := t.Context(), store.NewTable[fruit](s, "fruit")
	err := s.Txn(ctx, func(tx *store.Tx) error {
		in := table.In(tx)
		if err := in.Create("a", fruit{"apple", 1}); err != nil {
			return err
		}
		if got, err := in.Get("a"); err != nil || got.Count != 1 {
			t.Errorf("Get of an own record = %v, %v", got, err)
		}
		if err := in.Create("a", fruit{}); !errors.Is(err, store.ErrExists) {
			t.Errorf("Create of an own record: %v, want ErrExists", err)
		}
		if err := in.Delete("a"); err != nil {
			return err
		}
		if _, err := in.Get("a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get of an own deletion: %v, want ErrNotFound", err)
		}
		if err := in.Delete("a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("second Delete: %v, want ErrNotFound", err)
		}
		return in.Create("a", fruit{"avocado", 2})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := table.Get(ctx, "a"); err != nil || got.Name != "avocado" {
		t.Errorf("record = %v, %v, want the last that was written", got, err)
	}
}

// TestTxnSeesOneState lets another writer change two records between a transaction's two reads: it must never see one
// of before with one of after.
func TestTxnSeesOneState(t *testing.T) {
	s := open(t)
	ctx, table := t.Context(), store.NewTable[int](s, "numbers")
	set := func(n int) {
		if err := s.Txn(ctx, func(tx *store.Tx) error {
			return errors.Join(table.In(tx).Put("a", n), table.In(tx).Put("b", n))
		}); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	runs := 0
	err := s.Txn(ctx, func(tx *store.Tx) error {
		runs++
		a, err := table.In(tx).Get("a")
		if err != nil {
			return err
		}
		if runs == 1 {
			set(2)
		}
		b, err := table.In(tx).Get("b")
		if err != nil || a != b {
			t.Errorf("run %d: a = %d, b = %d, %v", runs, a, b, err)
		}
		return table.In(tx).Put("sum", a+b)
	})
	if err != nil || runs != 2 {
		t.Fatalf("%d runs, %v, want two", runs, err)
	}
	if sum, _ := table.Get(ctx, "sum"); sum != 4 {
		t.Errorf("sum = %d, want that of the later state", sum)
	}
}

// TestAssume gives a transaction a record as it was, or as it no longer is.
func TestAssume(t *testing.T) {
	s := open(t)
	ctx, table := t.Context(), store.NewTable[fruit](s, "fruit")
	old, err := s.TxnRevision(ctx, func(tx *store.Tx) error { return table.In(tx).Create("a", fruit{"apple", 1}) })
	if err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("no")
	for _, test := range []struct {
		name   string
		change func(seen fruit, tx *store.Tx) error
		stale  bool
		want   []int // counts that the change function sees, run by run
		err    error
	}{
		{
			name: "right", want: []int{1},
			change: func(f fruit, tx *store.Tx) error { return table.In(tx).Put("a", f) },
		},
		{
			name: "stale, found out by the commit", stale: true, want: []int{1, 7},
			change: func(f fruit, tx *store.Tx) error { return table.In(tx).Put("a", f) },
		},
		{
			name: "stale, and the change would refuse", stale: true, want: []int{1, 7},
			change: func(fruit, *store.Tx) error { return refusal }, err: refusal,
		},
		{
			name: "stale, and the change writes nothing", stale: true, want: []int{1, 7},
			change: func(fruit, *store.Tx) error { return nil },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			revision, err := s.TxnRevision(ctx, func(tx *store.Tx) error { return table.In(tx).Put("a", fruit{"apple", 1}) })
			if err != nil || revision <= old {
				t.Fatalf("revision %d, %v", revision, err)
			}
			if test.stale {
				if err := table.Put(ctx, "a", fruit{"apple", 7}); err != nil {
					t.Fatal(err)
				}
			}
			var seen []int
			err = s.Txn(ctx, func(tx *store.Tx) error {
				table.In(tx).Assume("a", fruit{"apple", 1}, revision)
				f, err := table.In(tx).Get("a")
				if err != nil {
					return err
				}
				seen = append(seen, f.Count)
				return test.change(f, tx)
			})
			if !errors.Is(err, test.err) || cmp.Diff(test.want, seen) != "" {
				t.Errorf("Txn saw %v and returned %v, want %v and %v", seen, err, test.want, test.err)
			}
		})
	}
}

// TestWatchNews leaves out what the watcher says it knows.
func TestWatchNews(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := open(t)
	table := store.NewTable[fruit](s, "fruit")
	known := func(key string, revision int64) bool { return key == "mine" && revision > 0 }
	_, changes, err := table.WatchNews(ctx, "", known)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := table.WatchKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"mine", "yours"} {
		if err := table.Put(ctx, key, fruit{Name: key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Delete(ctx, "yours"); err != nil {
		t.Fatal(err)
	}
	first, second := <-changes, <-changes
	if first.Key != "yours" || first.Value == nil || second.Key != "yours" || second.Value != nil {
		t.Errorf("changes %+v and %+v, want the writing and the deletion of yours", first, second)
	}
	var all []string
	for range 3 {
		all = append(all, <-keys)
	}
	if diff := cmp.Diff([]string{"mine", "yours", "yours"}, all); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	records, err := s.Records(ctx)
	if diff := cmp.Diff(map[string]int64{"fruit": 1}, records); err != nil || diff != "" {
		t.Errorf("records: %v (-want +got):\n%s", err, diff)
	}
}
