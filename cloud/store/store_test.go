package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

type fruit struct {
	Name  string
	Count int
}

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestTable(t *testing.T) {
	ctx, table := t.Context(), store.NewTable[fruit](open(t), "fruit")
	if _, err := table.Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of a missing record: %v, want ErrNotFound", err)
	}
	if err := table.Create(ctx, "a", fruit{"apple", 1}); err != nil {
		t.Fatal(err)
	}
	if err := table.Create(ctx, "a", fruit{"avocado", 1}); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second Create: %v, want ErrExists", err)
	}
	if err := table.Put(ctx, "b", fruit{"banana", 2}); err != nil {
		t.Fatal(err)
	}
	got, err := table.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fruit{{"apple", 1}, {"banana", 2}}, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	keys, err := table.Keys(ctx, "b")
	if err != nil || cmp.Diff([]string{"b"}, keys) != "" {
		t.Errorf("Keys = %v, %v; want [b]", keys, err)
	}
	if err := table.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := table.Delete(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second Delete: %v, want ErrNotFound", err)
	}
}

func TestUpdateLosesNoWrite(t *testing.T) {
	ctx, table := t.Context(), store.NewTable[fruit](open(t), "fruit")
	if err := table.Create(ctx, "a", fruit{Name: "apple"}); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				if _, err := table.Update(ctx, "a", func(f *fruit) error { f.Count++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, _ := table.Get(ctx, "a"); got.Count != writers*rounds {
		t.Errorf("count %d after %d updates", got.Count, writers*rounds)
	}
}

// TestUpdateOfADeletedRecord deletes the record while it is being changed.
func TestUpdateOfADeletedRecord(t *testing.T) {
	ctx, table := t.Context(), store.NewTable[fruit](open(t), "fruit")
	if err := table.Create(ctx, "a", fruit{Name: "apple"}); err != nil {
		t.Fatal(err)
	}
	runs := 0
	_, err := table.Update(ctx, "a", func(*fruit) error {
		runs++
		return table.Delete(ctx, "a")
	})
	if !errors.Is(err, store.ErrNotFound) || runs != 1 {
		t.Errorf("Update: %v after %d runs, want ErrNotFound after one", err, runs)
	}
	if _, err := table.Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the deleted record: %v, want ErrNotFound", err)
	}
}

func TestUpdateRefusedWritesNothing(t *testing.T) {
	ctx, table := t.Context(), store.NewTable[fruit](open(t), "fruit")
	if err := table.Create(ctx, "a", fruit{Name: "apple"}); err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("no")
	if _, err := table.Update(ctx, "a", func(f *fruit) error { f.Count = 9; return refusal }); !errors.Is(err, refusal) {
		t.Fatalf("Update: %v, want the refusal", err)
	}
	if got, _ := table.Get(ctx, "a"); got.Count != 0 {
		t.Errorf("count %d after a refused update", got.Count)
	}
}

func TestTxnIsAllOrNothing(t *testing.T) {
	s := open(t)
	ctx, table, other := t.Context(), store.NewTable[fruit](s, "fruit"), store.NewTable[int](s, "numbers")
	refusal := errors.New("no")
	err := s.Txn(ctx, func(tx *store.Tx) error {
		if err := table.In(tx).Create("a", fruit{Name: "apple"}); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Fatalf("Txn: %v, want the refusal", err)
	}
	if _, err := table.Get(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a refused transaction wrote: %v", err)
	}
	const writers = 10
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if err := s.Txn(ctx, func(tx *store.Tx) error {
				n, err := other.In(tx).Get("next")
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				if err := table.In(tx).Create(strconv.Itoa(n), fruit{Count: i}); err != nil {
					return err
				}
				return other.In(tx).Put("next", n+1)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, _ := table.List(ctx, ""); len(got) != writers {
		t.Errorf("%d records after %d transactions", len(got), writers)
	}
}

func TestWatchHasNoGap(t *testing.T) {
	ctx, table := t.Context(), store.NewTable[fruit](open(t), "fruit")
	if err := table.Create(ctx, "a", fruit{Name: "apple"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	initial, changes, err := table.Watch(ctx, "")
	if err != nil || len(initial) != 1 {
		t.Fatalf("Watch: %v, %v", initial, err)
	}
	if err := table.Put(ctx, "b", fruit{Name: "banana"}); err != nil {
		t.Fatal(err)
	}
	if err := table.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if c := <-changes; c.Key != "b" || c.Value == nil || c.Value.Name != "banana" {
		t.Errorf("first change %+v", c)
	}
	if c := <-changes; c.Key != "a" || c.Value != nil {
		t.Errorf("second change %+v", c)
	}
	cancel()
	for range changes {
	}
}

func TestRecordsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 {
		s, err := store.Open(t.Context(), store.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		table := store.NewTable[fruit](s, "fruit")
		if round == 0 {
			err = table.Create(t.Context(), "a", fruit{Name: "apple"})
		} else {
			_, err = table.Get(t.Context(), "a")
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenBadInput(t *testing.T) {
	damaged := t.TempDir()
	if err := os.MkdirAll(filepath.Join(damaged, "etcd", "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(damaged, "etcd", "member", "snap", "db")
	if err := os.WriteFile(db, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	busy := t.TempDir()
	holder, err := store.Open(t.Context(), store.Config{Dir: busy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Close() })
	tests := []struct {
		name string
		cfg  store.Config
		want error
	}{
		{name: "nothing given", cfg: store.Config{}},
		{name: "both given", cfg: store.Config{Dir: "x", Endpoints: []string{"http://127.0.0.1:1"}}},
		{name: "damaged folder", cfg: store.Config{Dir: damaged}, want: store.ErrDamaged},
		{name: "folder in use", cfg: store.Config{Dir: busy}, want: store.ErrBusy},
		{name: "nobody listens", cfg: store.Config{Endpoints: []string{"http://127.0.0.1:1"}, StartTimeout: time.Second},
			want: store.ErrUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := store.Open(t.Context(), tt.cfg)
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}
