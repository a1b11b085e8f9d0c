package local

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStoreEndpoints has a state folder tell where its records are, as they were told last.
func TestStoreEndpoints(t *testing.T) {
	l := Layout(t.TempDir())
	for _, want := range [][]string{nil, {"http://127.0.0.1:2379", "http://127.0.0.1:2380"}, nil} {
		if err := l.noteStore(want); err != nil {
			t.Fatal(err)
		}
		got, err := l.StoreEndpoints()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("error %v (-want +got):\n%s", err, diff)
		}
	}
	if err := os.WriteFile(l.RecordsFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.StoreEndpoints(); err == nil || !strings.Contains(err.Error(), l.RecordsFile()) {
		t.Errorf("error %v, want one that names %s", err, l.RecordsFile())
	}
}
