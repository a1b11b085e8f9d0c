package controller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// startFailure is a failed start's reason, with the driver's evidence.
func startFailure(err error) string {
	var fault *hypervisor.Error
	if errors.As(err, &fault) && fault.ConsoleTail != "" {
		return err.Error() + "\n" + fault.ConsoleTail
	}
	return err.Error()
}

// look finds out whether the machine has ended. ev is what the hypervisor said, if anything.
func (g *guest) look(life context.Context, ev hypervisor.Event) (outcome, bool) {
	state, err := g.machine.State(life)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		state = hypervisor.Gone
	case err != nil:
		g.log.Warn("ask for the machine's state", "error", err)
		if ev.State != "" { // nobody tells it again
			time.AfterFunc(chorePause, func() { g.hear(ev) })
		}
		return outcome{}, false
	}
	if state == hypervisor.Running || state == hypervisor.Paused {
		return outcome{}, false
	}
	g.ending = true
	if ev.State == "" {
		ev = g.awaitEvent(life)
	}
	g.drain(life)
	end := outcome{state: stateStopped, reason: "the guest powered off"}
	switch {
	case state == hypervisor.Crashed || ev.State == hypervisor.Crashed:
		end = outcome{state: stateFailed, reason: "the guest crashed"}
	case g.failure != "":
		end = outcome{state: stateFailed, reason: g.failure}
	}
	if ev.Reason != "" && ev.Reason != "shutdown" {
		end.reason += " (" + ev.Reason + ")"
	}
	if fault := g.console.tail.Fault(); fault != "" {
		end.reason += ": " + fault
	}
	end.reason += g.console.tail.Section()
	return end, true
}

// awaitEvent gives the hypervisor a moment to say how the machine ended: its word may come after the console's end.
func (g *guest) awaitEvent(life context.Context) hypervisor.Event {
	timer := time.NewTimer(eventGrace)
	defer timer.Stop()
	for {
		select {
		case ev := <-g.events:
			if ev.State != hypervisor.Running && ev.State != hypervisor.Paused {
				return ev
			}
		case <-timer.C:
			return hypervisor.Event{}
		case <-life.Done():
			return hypervisor.Event{}
		}
	}
}

// drain reads what the console still has to tell. Kill makes the console end.
func (g *guest) drain(life context.Context) {
	g.keepEvidence(life)
	if err := g.machine.Kill(life); err != nil {
		g.log.Warn("clear away ended machine", "error", err)
	}
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	for {
		select {
		case item, ok := <-g.console.items:
			if !ok {
				return
			}
			g.read(life, item)
		case <-timer.C:
			return
		case <-life.Done():
			return
		}
	}
}

// cleanUp removes everything of the machine, tells how it ended, and waits for the cloud's word that the instance
// is done with.
func (g *guest) cleanUp(ctx context.Context, cancel context.CancelFunc, end outcome, removed bool) {
	g.seat.leave()
	g.keepEvidence(ctx)
	if g.machine != nil && !killUntilGone(ctx, g.machine, g.log) {
		g.letGo(cancel)
		return
	}
	if g.medium != "" {
		g.eject = false // the drive is gone
		g.wipeMedium(nodelink.WipedEnded)
	}
	g.unexposeAll()
	g.countFrames()
	g.detach()
	cancel()
	if !removed {
		g.record.Ended, g.record.State, g.record.Reason = true, end.state, end.reason
		if err := g.c.files.save(g.record); err != nil {
			g.log.Error("remember the end", "error", err)
		}
		g.log.Info("guest ended", "state", end.state, "reason", end.reason)
		g.c.reports.state(g.id, end.state, end.reason)
		select {
		case <-g.removal.Done():
		case <-ctx.Done():
			return
		}
	}
	g.c.files.remove(g.id)
	g.c.reports.end(g.id, g.c.files.archived(g.id))
	g.c.forget(g.id)
}

// letGo leaves the machine running for the next process, but not its medium: without a process nobody would take
// it away in time.
func (g *guest) letGo(cancel context.CancelFunc) {
	cancel()
	if g.medium == "" || g.machine == nil || g.c.cfg.Abandon() {
		return
	}
	ctx, done := context.WithTimeout(context.Background(), drainTime)
	defer done()
	g.takeMedium(ctx, "node ended")
}

// killUntilGone kills a machine, again and again when that does not work, and returns false if ctx ended first.
func killUntilGone(ctx context.Context, m hypervisor.Machine, log *slog.Logger) bool {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		err := m.Kill(ctx)
		if err == nil || errors.Is(err, hypervisor.ErrNotFound) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		log.Warn("kill machine", "instance", m.ID(), "error", err)
		wait(ctx, pause)
	}
}
