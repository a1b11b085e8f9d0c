package controller

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/console"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// maxLog is how much of a console log is read after its machine is gone, in bytes.
const maxLog = 64 << 20

// follower reads one machine's console.
type follower struct {
	items chan consoleItem // closed at the console's end
	tail  console.Tail
	now   func() time.Time // the node's clock
}

// consoleItem is a milestone, or the word that everything was read that was there when following began.
type consoleItem struct {
	milestone *nodelink.Milestone
	caughtUp  bool
}

// follow begins to read a console from its first byte. replay is how many bytes it holds already.
func follow(ctx context.Context, wg *sync.WaitGroup, m hypervisor.Machine, replay int64,
	now func() time.Time) *follower {
	f := &follower{items: make(chan consoleItem, 16), now: now}
	wg.Go(func() {
		defer close(f.items)
		f.read(ctx, m, replay)
	})
	return f
}

func (f *follower) read(ctx context.Context, m hypervisor.Machine, replay int64) {
	caughtUp := false
	send := func(item consoleItem) {
		select {
		case f.items <- item:
		case <-ctx.Done():
		}
	}
	catchUp := func() {
		if !caughtUp {
			caughtUp = true
			send(consoleItem{caughtUp: true})
		}
	}
	defer catchUp()
	if replay == 0 {
		catchUp()
	}
	serial, err := m.Console(ctx)
	if err != nil {
		return
	}
	defer func() { _ = serial.Close() }()
	// A reader that does not look at its context is ended by closing it.
	stop := context.AfterFunc(ctx, func() { _ = serial.Close() })
	defer stop()
	_ = console.Scan(serial, func(line []byte) {
		f.tail.Add(line)
		if m, ok := console.Parse(line, f.now()); ok {
			send(consoleItem{milestone: m})
		}
	}, func(total int64) {
		if total >= replay {
			catchUp()
		}
	})
}

// followConsole begins to follow the machine's console. Until what it holds by now was read again, milestones may
// be ones that were told before.
func (g *guest) followConsole(life context.Context, fresh bool) {
	replay := int64(0)
	if !fresh {
		replay = g.c.files.consoleSize(g.id) - g.record.From
	}
	g.replaying = true
	g.console = follow(life, &g.c.workers, g.machine, replay, g.c.cfg.Trouble.Now)
}

// readLog reads the console log of a machine that is gone: its milestones are told, its tail is returned.
func (g *guest) readLog() string {
	f, err := os.Open(g.c.files.console(g.id))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(g.record.From, io.SeekStart); err != nil {
		return ""
	}
	var t console.Tail
	_ = console.Scan(io.LimitReader(f, maxLog), func(line []byte) {
		t.Add(line)
		if m, ok := console.Parse(line, g.c.cfg.Trouble.Now()); ok && m.GetStage() != stageHandshakes {
			g.c.reports.milestone(g.id, g.ofThisBoot(m))
		}
	}, func(int64) {})
	return t.Section()
}
