package twin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
)

// alwaysEvery is how often an invariant is checked, and alwaysBound how long one check may take.
const (
	alwaysEvery = 100 * time.Millisecond
	alwaysBound = 30 * time.Second
)

// Invariant is a check that runs beside a spec.
type Invariant struct {
	name   string
	check  func(context.Context) error
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	checks int
	broken error
	when   time.Time
}

// Always checks over and over, beside the spec and until it ends, that something holds, and once more at its end. The
// first error of check fails the spec, and is told as what went wrong first, whatever the spec noticed
// afterwards. check runs in a goroutine of its own: it returns errors and makes no assertions. Call it in the
// spec, or in a BeforeEach.
//
//	twin.Always("the page is served", func(ctx context.Context) error {
//		_, err := client.Get(ctx, "/")
//		return err
//	})
func Always(name string, check func(context.Context) error) *Invariant {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithCancel(context.Background())
	i := &Invariant{name: name, check: check, cancel: cancel, done: make(chan struct{})}
	go i.run(ctx)
	ginkgo.DeferCleanup(func() {
		if err := i.Stop(); err != nil {
			ginkgo.Fail(err.Error())
		}
	})
	return i
}

func (i *Invariant) run(ctx context.Context) {
	defer close(i.done)
	tick := time.NewTicker(alwaysEvery)
	defer tick.Stop()
	for i.once(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// once checks, and tells whether to go on. A check that ends since the spec did is none.
func (i *Invariant) once(ctx context.Context) bool {
	bounded, cancel := context.WithTimeout(ctx, alwaysBound)
	defer cancel()
	err := i.check(bounded)
	if ctx.Err() != nil {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.checks++
	if err != nil && i.broken == nil {
		i.broken, i.when = err, time.Now()
	}
	return i.broken == nil
}

// Stop ends the checks, after a last one, and returns what broke the invariant. Calling it again returns the same.
func (i *Invariant) Stop() error {
	i.cancel()
	<-i.done
	i.mu.Lock()
	last := i.broken == nil && i.check != nil
	i.mu.Unlock()
	if last {
		i.once(context.Background())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	first := i.check != nil
	i.check = nil
	if i.broken == nil {
		return nil
	}
	what := fmt.Sprintf("it must always hold that %s: %v", i.name, i.broken)
	if first {
		ginkgo.AddReportEntry(verdict.Entry, verdict.Cause{Blame: verdict.Product, What: what, Time: i.when}.JSON(),
			ginkgo.ReportEntryVisibilityNever)
	}
	return errors.New(what)
}

// Checks is how often the invariant was found to hold or to be broken.
func (i *Invariant) Checks() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.checks
}
