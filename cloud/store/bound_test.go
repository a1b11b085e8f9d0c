package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/cloud/store/storetest"
)

// TestClusterThatIsGone takes an etcd away from a store that has used it, and brings it back.
func TestClusterThatIsGone(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	w := storetest.Start(t)
	for name, way := range map[string]func(){"which refuses connections": w.Cut, "which is silent": w.Hold} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), store.Config{Endpoints: []string{w.URL()}, AnswerTimeout: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			table := store.NewTable[int](s, "numbers of an etcd "+name)
			until(t, func() error { return table.Put(t.Context(), "a", 1) })
			var changes <-chan store.Change[int]
			until(t, func() (err error) {
				_, changes, err = table.Watch(t.Context(), "")
				return err
			})
			way()
			for question, ask := range questions(s, table) {
				if err := ask(t.Context()); !errors.Is(err, store.ErrUnreachable) {
					t.Errorf("%s: %v, want ErrUnreachable", question, err)
				}
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if err := ask(ended); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnreachable) {
					t.Errorf("%s by a caller who has gone: %v, want that he has", question, err)
				}
			}
			w.Open()
			until(t, func() error { return table.Put(t.Context(), "b", 7) })
			for c := range changes {
				if c.Key == "b" && c.Value != nil && *c.Value == 7 {
					return
				}
			}
			t.Error("a watch ended with the outage")
		})
	}
}

// questions are all kinds that a store asks.
func questions(s *store.Store, table *store.Table[int]) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"put":    func(ctx context.Context) error { return table.Put(ctx, "a", 2) },
		"create": func(ctx context.Context) error { return table.Create(ctx, "c", 1) },
		"delete": func(ctx context.Context) error { return table.Delete(ctx, "a") },
		"get": func(ctx context.Context) error {
			_, err := table.Get(ctx, "a")
			return err
		},
		"get many": func(ctx context.Context) error {
			_, err := table.GetMany(ctx, []string{"a", "c"})
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := table.List(ctx, "")
			return err
		},
		"transaction": func(ctx context.Context) error {
			return s.Txn(ctx, func(tx *store.Tx) error { return table.In(tx).Put("a", 2) })
		},
		"watch": func(ctx context.Context) error {
			_, _, err := table.Watch(ctx, "")
			return err
		},
		"dump": func(ctx context.Context) error { return s.Dump(ctx, func(store.Raw) error { return nil }) },
	}
}

// until asks again while etcd is not there: the time for one answer is shorter than a busy machine may take.
func until(t *testing.T, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := ask()
	for errors.Is(err, store.ErrUnreachable) && ctx.Err() == nil {
		err = ask()
	}
	if err != nil {
		t.Fatal(err)
	}
}
