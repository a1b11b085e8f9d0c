package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// TestDumpAt reads what there was before a record was changed and another deleted.
func TestDumpAt(t *testing.T) {
	s := open(t)
	var revisions []int64
	write := func(do func(tx *store.Tx) error) {
		revision, err := s.TxnRevision(t.Context(), do)
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, revision)
	}
	table := store.NewTable[int](s, "numbers")
	write(func(tx *store.Tx) error { return errors.Join(table.In(tx).Put("a", 1), table.In(tx).Put("b", 1)) })
	write(func(tx *store.Tx) error { return errors.Join(table.In(tx).Put("a", 2), table.In(tx).Delete("b")) })
	for i, want := range []map[string]string{{"numbers/a": "1", "numbers/b": "1"}, {"numbers/a": "2"}} {
		got := map[string]string{}
		if err := s.DumpAt(t.Context(), revisions[i], func(r store.Raw) error {
			got[r.Key] = string(r.Value)
			if r.Created != revisions[0] {
				t.Errorf("%s was created at %d, want %d", r.Key, r.Created, revisions[0])
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("revision %d (-want +got):\n%s", revisions[i], diff)
		}
	}
	err := s.DumpAt(t.Context(), revisions[1]+100, func(store.Raw) error { return nil })
	if !errors.Is(err, store.ErrForgotten) {
		t.Errorf("error %v, want ErrForgotten", err)
	}
}
