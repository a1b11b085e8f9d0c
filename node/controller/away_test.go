package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// TestEndWhileTheHypervisorIsAway has the word of a guest's end come when the hypervisor cannot be asked.
func TestEndWhileTheHypervisorIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		inst := w.instance("web")
		w.cloud.run(inst)
		pass(time.Second)
		w.wantState(inst.GetId(), stateRunning)
		m := w.driver.machine(inst.GetId())
		answer := func(err error) {
			w.driver.mu.Lock()
			defer w.driver.mu.Unlock()
			m.stateErr = err
		}
		answer(fmt.Errorf("%w: no connection", hypervisor.ErrUnavailable))
		m.end(hypervisor.Stopped, "shutdown")
		pass(3 * chorePause)
		w.wantState(inst.GetId(), stateRunning)

		answer(nil)
		pass(2 * chorePause)
		w.wantState(inst.GetId(), stateStopped)
	})
}
