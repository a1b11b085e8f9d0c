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

func stages() map[string]rehearsal.Stage {
	return map[string]rehearsal.Stage{
		"memory":   {Files: files, Network: rehearsal.InMemory()},
		"loopback": {Files: files, Network: rehearsal.Loopback(net.Listen)},
		"brief":    {Files: files, Network: rehearsal.InMemory(), Brief: true},
	}
}

func TestLBVM(t *testing.T) {
	for name, stage := range stages() {
		if err := rehearsal.LBVM(t.Context(), stage); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWeb(t *testing.T) {
	for name, stage := range stages() {
		if err := rehearsal.Web(t.Context(), stage); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMediumThatCannotBeReadIsTold(t *testing.T) {
	empty := func(map[string][]byte) fs.FS { return fstest.MapFS{} }
	if err := rehearsal.LBVM(t.Context(), rehearsal.Stage{Files: empty, Network: rehearsal.InMemory()}); err == nil {
		t.Error("a rehearsal without an identity is said to have gone well")
	}
}
