package store

import (
	"errors"
	"testing"
)

// TestFullDiskRefusesWrites lets the disk fill up under an open store.
func TestFullDiskRefusesWrites(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	table := NewTable[int](s, "numbers")
	if err := table.Create(ctx, "a", 1); err != nil {
		t.Fatal(err)
	}
	before := s.server.Server.KV().Rev()
	room := s.room
	s.room = func() error { return ErrFull }
	for _, write := range []struct {
		name string
		do   func() error
	}{
		{"create", func() error { return table.Create(ctx, "b", 1) }},
		{"put", func() error { return table.Put(ctx, "a", 2) }},
		{"update", func() error {
			_, err := table.Update(ctx, "a", func(n *int) error { *n = 2; return nil })
			return err
		}},
		{"delete", func() error { return table.Delete(ctx, "a") }},
		{"transaction", func() error {
			return s.Txn(ctx, func(tx *Tx) error { return table.In(tx).Put("a", 2) })
		}},
	} {
		if err := write.do(); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v, want ErrFull", write.name, err)
		}
	}
	if n, err := table.Get(ctx, "a"); err != nil || n != 1 || s.server.Server.KV().Rev() != before {
		t.Errorf("a is %d, %v, revision %d; want 1 at %d", n, err, s.server.Server.KV().Rev(), before)
	}
	s.room = room
	if err := table.Put(ctx, "a", 2); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
