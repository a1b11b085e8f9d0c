package controller

import (
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// TestDroppedFramesAreTold as the node's own word, by reason.
func TestDroppedFramesAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, stop := w.start()
		defer stop()
		inst := w.instance("web")
		w.cloud.run(inst)
		pass(time.Second)
		c.FramesDropped("i-00000000000000000", map[string]uint64{"vlan": 1}) // of a guest that is gone: nobody's
		c.FramesDropped(inst.GetId(), map[string]uint64{"spoofed-mac": 3, "vlan": 1})
		pass(time.Second)
		for name, want := range map[string]string{"spoofed-mac": "3", "vlan": "1", "source": "node"} {
			if got := w.cloud.attribute(inst.GetId(), nodelink.StageFramesDropped, name); got != want {
				t.Errorf("%s was told as %q, want %q", name, got, want)
			}
		}
		w.wantState(inst.GetId(), stateRunning)
	})
}
