package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// The stages that the node itself tells of; all others are the guest's words.
const (
	stageStarted      = "machine-started"
	stageInserted     = nodelink.StageMediumInserted
	stageMediumFailed = nodelink.StageMediumFailed
	stageExposeFailed = "exposure-failed" // address, reason
)

// The guest's stages that matter here.
const (
	stageMediumRead = "medium-read"
	stageNetwork    = "network"
	stageServing    = "serving"
	stageFailed     = "failed"
	// stageHandshakes counts TLS handshakes: it comes again and again, so it is no milestone but an event.
	stageHandshakes = "tls-handshakes"
)

const (
	// chorePause is the pause before what did not work (an exposure, an ejection) is tried again.
	chorePause = 2 * time.Second
	// drainTime is how long the console of an ended machine may take to be read to its end.
	drainTime = 2 * time.Second
	// eventGrace is how long the hypervisor's word on an ended machine may take to come after the console's end.
	eventGrace = 200 * time.Millisecond
	// A guest that prints more milestones than this is flooding: the rest is dropped.
	milestoneRate, milestoneBurst = 20, 100
)

// guest is one instance on this node. One goroutine, run, does everything; others only leave word.
type guest struct {
	c   *Controller
	id  string
	log *slog.Logger

	events  chan hypervisor.Event
	changed chan struct{}   // the wish changed
	removal context.Context //nolint:containedctx // ended: the cloud does not want it any more
	remove  context.CancelFunc

	mu     sync.Mutex
	wanted *nodelink.Instance
	spent  string // the fingerprint of a credential that is not opened again

	credentials credentialCache
	signatures  signatureCache
	requests    requests
	frames      frameCounts

	// All below belong to run's goroutine.
	record   record
	machine  hypervisor.Machine
	console  *follower
	medium   string       // path of the image in the drive, or empty
	eject    bool         // the drive is still to be emptied
	captured func() error // ends the capture of its frames; nil: there is none
	exposed  map[string]int
	broken   map[string]string // exposures that did not work: address -> reason that was told
	seat     *seat             // what its start holds of the host, until it serves
	how      string            // its machine was started by this process: cold, fork, pooled, sim
	noFork   bool              // it was tried, or is of no use to try
	limiter  *rate.Limiter
	failure  string // the last one that the guest told of
	spoke    bool   // its console showed a milestone
	reads    int    // how many media it said it read
	ending   bool   // the machine has ended, and only its console is still read
	shown    bool   // what the driver has to show of the machine lies beside its console
	// replaying is set while the console is read that was there before.
	replaying bool
	// rebooting is set while the machine is to end so that another takes its place.
	rebooting bool
	// inherited is set for a machine of an earlier process whose medium, if any, is gone.
	inherited bool

	mediumTimer, bootTimer, choreTimer, rebootTimer *time.Timer
	bootTimeout                                     time.Duration
}

func newGuest(c *Controller, r record) *guest {
	removal, remove := context.WithCancel(context.Background())
	return &guest{
		c: c, id: r.Instance.GetId(), log: c.log.With("instance", r.Instance.GetId()),
		events: make(chan hypervisor.Event, 4), changed: make(chan struct{}, 1), removal: removal, remove: remove,
		wanted: r.Instance, record: r, exposed: map[string]int{}, broken: map[string]string{},
		limiter:     rate.NewLimiter(milestoneRate, milestoneBurst),
		mediumTimer: stoppedTimer(), bootTimer: stoppedTimer(), choreTimer: stoppedTimer(), rebootTimer: stoppedTimer(),
	}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// want leaves word of a changed instance.
func (g *guest) want(inst *nodelink.Instance) {
	g.mu.Lock()
	g.wanted = inst
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// hear leaves word of an event. A full box means that the goroutine will look at the machine anyway.
func (g *guest) hear(ev hypervisor.Event) {
	select {
	case g.events <- ev:
	default:
	}
}

func (g *guest) wish() *nodelink.Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wanted
}

// outcome is how a guest's life ended.
type outcome struct {
	state, reason string
}

var (
	errRemoved = errors.New("removed")
	errClosing = errors.New("the controller is closing")
)

// run is the guest's whole life on this node. When ctx ends it lets go of the machine, which goes on.
func (g *guest) run(ctx context.Context, found hypervisor.Machine) {
	defer g.stopTimers()
	defer func() { g.seat.leave() }()
	defer g.remove()
	// Ends what this life began, also when the machine is let go.
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	end, err := g.live(ctx, life, found)
	if errors.Is(err, errClosing) {
		g.letGo(cancel)
		return
	}
	g.cleanUp(ctx, cancel, end, errors.Is(err, errRemoved))
}

func (g *guest) stopTimers() {
	g.mediumTimer.Stop()
	g.bootTimer.Stop()
	g.choreTimer.Stop()
	g.rebootTimer.Stop()
}

// live brings the machine up, or takes it over, and looks after it until it ends. errRemoved and errClosing say
// that it did not end by itself.
func (g *guest) live(ctx, life context.Context, found hypervisor.Machine) (outcome, error) {
	g.machine = found
	switch {
	case g.record.Ended:
		return outcome{state: g.record.State, reason: g.record.Reason}, nil
	case found != nil:
		g.log.Info("take over machine")
		g.inherited = true
		g.followConsole(life, false)
		if end, ended := g.look(life, hypervisor.Event{}); ended {
			return end, nil
		}
	case g.record.Started:
		return outcome{state: stateStopped, reason: "the guest ended while its node was away" + g.readLog()}, nil
	default:
		return g.bringUp(ctx, life)
	}
	g.bootTimeout = g.c.bootTimeout()
	g.attach(life)
	end, err := g.lookAfter(ctx, life)
	if !errors.Is(err, errReboot) {
		return end, err
	}
	if err := g.reboot(ctx); err != nil {
		return outcome{}, err
	}
	return g.bringUp(ctx, life)
}

// bringUp starts the machine and looks after it, and starts another one for each reboot. A fork that does not come to
// life is followed by a cold boot.
func (g *guest) bringUp(ctx, life context.Context) (outcome, error) {
	for {
		end, err := g.tryOnce(ctx, life)
		if errors.Is(err, errForkFailed) {
			if err = g.undoFork(ctx, err); err == nil {
				continue
			}
		}
		if errors.Is(err, errReboot) {
			if err = g.reboot(ctx); err == nil {
				continue
			}
		}
		if err == nil || errors.Is(err, errRemoved) || errors.Is(err, errClosing) {
			return end, err
		}
		g.log.Error("start machine", "error", err)
		return outcome{state: stateFailed, reason: startFailure(err)}, nil
	}
}

func (g *guest) tryOnce(ctx, life context.Context) (outcome, error) {
	// Ends the reading of the console of a fork that failed.
	life, cancel := context.WithCancel(life)
	defer cancel()
	if err := g.start(ctx, life); err != nil {
		return outcome{}, err
	}
	g.followConsole(life, true)
	g.bootTimeout = g.c.bootTimeout()
	if g.record.Forked {
		g.bootTimeout = g.c.forkTimeout()
	}
	return g.lookAfter(ctx, life)
}

// lookAfter watches the machine until it ends.
func (g *guest) lookAfter(ctx, life context.Context) (outcome, error) {
	g.bootTimer.Reset(g.bootTimeout)
	end, err := g.watch(ctx, life)
	if startedHere := g.how != ""; err == nil && startedHere && g.record.Forked && !g.spoke {
		return outcome{}, fmt.Errorf("%w: %s", errForkFailed, end.reason)
	}
	return end, err
}

// watch is the loop of a running guest.
func (g *guest) watch(ctx, life context.Context) (outcome, error) {
	g.heed(life)
	for {
		select {
		case <-ctx.Done():
			return outcome{}, errClosing
		case <-g.removal.Done():
			return outcome{}, errRemoved
		case <-g.changed:
			g.heed(life)
		case <-g.rebootTimer.C:
			return outcome{}, errReboot
		case item, ok := <-g.console.items:
			if end, ended := g.heard(life, item, ok); ended {
				return g.over(end)
			}
		case ev := <-g.events:
			if end, ended := g.look(life, ev); ended {
				return g.over(end)
			}
		case <-g.mediumTimer.C:
			g.takeMedium(life, nodelink.WipedExpired)
			if g.reads == 0 {
				return g.lost("the guest did not read its medium within %v", g.c.cfg.MediumLife), nil
			}
		case <-g.choreTimer.C:
			g.chores(life)
		case <-g.bootTimer.C:
			g.seat.leave()
			if !g.alive() {
				return g.lost("no sign of life within %v of its start", g.bootTimeout), nil
			}
		}
	}
}

// heed does what the cloud's wish asks for.
func (g *guest) heed(life context.Context) {
	if g.rebootAsked() {
		g.beginReboot(life)
	}
	g.update(life)
}

// heard works in what came from the console; ok is false at its end.
func (g *guest) heard(life context.Context, item consoleItem, ok bool) (outcome, bool) {
	if !ok {
		return g.consoleEnded(life)
	}
	g.read(life, item)
	return outcome{}, false
}

// consoleEnded finds out what ended: the machine, or the driver's line to it, which is then made anew.
func (g *guest) consoleEnded(life context.Context) (outcome, bool) {
	if end, ended := g.look(life, hypervisor.Event{}); ended {
		return end, true
	}
	wait(life, chorePause)
	g.followConsole(life, false)
	return outcome{}, false
}

// lost is the end of a guest that did not do in time what it must.
func (g *guest) lost(format string, limit time.Duration) outcome {
	reason := fmt.Sprintf(format, limit)
	if fault := g.console.tail.Fault(); fault != "" {
		reason += " " + fault
	}
	return outcome{state: stateFailed, reason: reason + g.console.tail.Section()}
}

// read works in what the console told.
func (g *guest) read(life context.Context, item consoleItem) {
	if item.caughtUp {
		g.replaying = false
		if !g.ending {
			g.update(life)
		}
		return
	}
	if !g.replaying && !g.limiter.Allow() {
		return
	}
	g.spoke = true
	if item.milestone.GetStage() == stageHandshakes {
		g.tellHandshakes(item.milestone)
		return
	}
	isNew := g.c.reports.milestone(g.id, g.ofThisBoot(item.milestone))
	stage := item.milestone.GetStage()
	if stage == stageFailed {
		g.failure = item.milestone.GetAttributes()["reason"]
	}
	g.giveOn(stage)
	switch {
	case g.record.Credential == bootMedium:
		// A fork says nothing before it has read who it is.
		g.reads = 1
		g.takeMedium(life, nodelink.WipedRead)
	case stage == stageMediumRead && isNew:
		// One that was read before says nothing of a medium that was put in since.
		g.reads++
		// A guest may say late that it has read the medium before the one that is in the drive now.
		read := item.milestone.GetAttributes()["credential"]
		if !keepsMedium(g.record.Instance) && (read == "" || read == g.record.Credential) {
			g.takeMedium(life, nodelink.WipedRead)
		}
	}
}

// tell reports a milestone of the node's own.
func (g *guest) tell(stage string, attributes map[string]string) {
	all := map[string]string{"source": "node"}
	for k, v := range attributes {
		all[k] = v
	}
	g.c.reports.milestone(g.id, &nodelink.Milestone{Stage: stage, UnixNanos: g.c.cfg.Trouble.Now().UnixNano(),
		Attributes: all})
}

// update makes the running machine what the cloud now asks for: its exposures, and its credential when there is a
// new one that the guest has not been given.
func (g *guest) update(life context.Context) {
	if g.rebooting {
		return // it is for the machine that comes next
	}
	inst := g.wish()
	g.record.Instance = inst
	g.expose(inst)
	sum := g.mediumSum(inst)
	if sum == "" || g.replaying || g.c.currentServices() == nil {
		return // none, or it is not known yet whether the guest has read it
	}
	switch {
	case sum != g.record.Credential, g.inherited && (g.reads < g.record.Media || keepsMedium(inst)):
		g.insert(life, inst)
	case g.inherited:
		// It was read while nobody listened, so nobody has told the cloud.
		g.inherited = false
		g.tellWiped(nodelink.WipedRead, sum)
	}
}
