package rehearsal_test

import (
	"io/fs"
	"net"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/rehearsal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func files(contents map[string][]byte) fs.FS {
	fsys := fstest.MapFS{}
	for name, data := range contents {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func networks() map[string]rehearsal.Network {
	return map[string]rehearsal.Network{"memory": rehearsal.InMemory(), "loopback": rehearsal.Loopback(net.Listen)}
}

func TestLBVM(t *testing.T) {
	for name, network := range networks() {
		if err := rehearsal.LBVM(t.Context(), files, network); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWeb(t *testing.T) {
	for name, network := range networks() {
		if err := rehearsal.Web(t.Context(), files, network); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMediumThatCannotBeReadIsTold(t *testing.T) {
	empty := func(map[string][]byte) fs.FS { return fstest.MapFS{} }
	if err := rehearsal.LBVM(t.Context(), empty, rehearsal.InMemory()); err == nil {
		t.Error("a rehearsal without an identity is said to have gone well")
	}
}
