package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// rebootGrace is how long a guest that is rebooted may take to switch itself off; then it is switched off. EC2 waits
// four minutes; a guest of ours takes less than a second, or hangs.
const rebootGrace = 10 * time.Second

// errReboot means that a machine is to be replaced by one that boots.
var errReboot = errors.New("reboot")

// rebootAsked says whether the cloud wants a reboot that the machine has not had.
func (g *guest) rebootAsked() bool { return !g.rebooting && g.wish().GetReboots() > g.record.Reboots }

// beginReboot asks the guest to switch itself off. From here on the machine that runs is one of before: a node that is
// killed now starts the instance anew when it comes back.
func (g *guest) beginReboot(life context.Context) {
	g.rebooting = true
	g.record.Instance, g.record.Reboots = g.wish(), g.wish().GetReboots()
	g.record.Started, g.record.Rebooting = false, true
	if err := g.c.files.save(g.record); err != nil {
		g.log.Error("remember the reboot", "error", err)
	}
	g.log.Info("reboot guest", "reboots", g.record.Reboots)
	grace := rebootGrace
	if err := g.machine.Stop(life); err != nil {
		g.log.Warn("ask the guest to switch itself off", "error", err)
		grace = 0
	}
	g.rebootTimer.Reset(grace)
}

// over is the end of a machine: that of its instance, too, unless it is rebooted.
func (g *guest) over(end outcome) (outcome, error) {
	if g.rebooting {
		return outcome{}, errReboot
	}
	return end, nil
}

// ofThisBoot marks a guest's milestone after a reboot: guests that boot alike say the same each time.
func (g *guest) ofThisBoot(m *nodelink.Milestone) *nodelink.Milestone {
	if n := g.record.Reboots; n > 0 {
		if m.Attributes == nil {
			m.Attributes = map[string]string{}
		}
		m.Attributes["reboots"] = strconv.FormatUint(n, 10)
	}
	return m
}

// reboot ends what is left of the machine, its memory and its medium with it, so that the instance can be started as if
// it were new. Its console goes on.
func (g *guest) reboot(ctx context.Context) error {
	g.rebootTimer.Stop()
	g.seat.leave()
	g.bootTimer.Stop()
	if !killUntilGone(ctx, g.machine, g.log) {
		return errClosing
	}
	g.wipeMedium("rebooted")
	g.unexposeAll()
	g.countFrames()
	g.detach()
	g.machine = nil
	for len(g.events) > 0 { // of the machine that is gone
		<-g.events
	}
	g.eject, g.inherited, g.replaying = false, false, false
	g.rebooting, g.ending, g.noFork, g.shown = false, false, false, false
	g.spoke, g.reads, g.failure, g.how = false, 0, "", ""
	g.record.Forked, g.record.Media = false, 0
	return nil
}

// goOn starts the instance of a machine that a killed process was about to replace. Without its credential, which only
// the cloud has, an LBVM cannot be: its record is dropped, and the cloud replaces it.
func (c *Controller) goOn(ctx context.Context, r record, half hypervisor.Machine) {
	id := r.Instance.GetId()
	if r.Credential != "" && r.Credential != bootMedium {
		c.undoStart(ctx, id, half)
		return
	}
	c.log.Info("go on with a reboot", "instance", id)
	if half != nil && !killUntilGone(ctx, half, c.log) {
		return
	}
	r.Forked, r.Media = false, 0
	c.add(ctx, r, nil)
}

// cutConsole takes away what the machine's guest wrote, and leaves what those before it did.
func (g *guest) cutConsole() error {
	path := g.c.files.console(g.id)
	var err error
	if g.record.From > 0 {
		err = os.Truncate(path, g.record.From)
	} else {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cut console: %w", err)
	}
	return nil
}
