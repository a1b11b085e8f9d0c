// Package placement knows the cloud's nodes: it signs their certificates with the cloud CA, takes them in by
// one-time tokens, keeps what they report, and chooses where an instance goes. Memory and cores are reserved in
// the same store transaction that creates the instance, so that two launches never overbook a node. What runs on
// a node is package ec2's matter, which also serves the nodes' connections.
//
// Read Choose and Reserve first, then Enrol, then OpenCA. The life of a NODECERT after enrolment is Authenticate, Renew
// and Remove.
package placement

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Config of a Service. Store and CA are required.
type Config struct {
	Store   *store.Store
	CA      *CA
	Journal *journal.Journal
	// Clock defaults to time.Now.
	Clock func() time.Time
	// DownAfter is the time without a sign of life after which a node gets no more instances; default 30 s.
	DownAfter time.Duration
	// TokenLife is how long an enrolment token can be used; default 1 h.
	TokenLife time.Duration
	// GuestOverheadMB is what a guest costs its host beside its own memory, in MB, on a node that does not say what a
	// guest costs there; default 140: QEMU's copy of the kernel and, without KVM, the translated code (measured: 236 MB
	// resident for a guest of 96).
	GuestOverheadMB int
	// VCPUsPerCore is how many virtual CPUs may be placed on one core; default 128. Guests of this cloud mostly
	// wait, so memory is what runs out first.
	VCPUsPerCore int
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("placement: Store is required"))
	}
	if c.CA == nil {
		errs = append(errs, errors.New("placement: CA is required"))
	}
	if c.DownAfter < 0 || c.TokenLife < 0 {
		errs = append(errs, errors.New("placement: DownAfter and TokenLife must not be negative"))
	}
	if c.GuestOverheadMB < 0 || c.VCPUsPerCore < 0 {
		errs = append(errs, errors.New("placement: GuestOverheadMB and VCPUsPerCore must not be negative"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.DownAfter == 0 {
		c.DownAfter = 30 * time.Second
	}
	if c.TokenLife == 0 {
		c.TokenLife = time.Hour
	}
	if c.GuestOverheadMB == 0 {
		c.GuestOverheadMB = 140
	}
	if c.VCPUsPerCore == 0 {
		c.VCPUsPerCore = 128
	}
	return c
}

// Service is the cloud's placement. Its methods may be called from any goroutine.
type Service struct {
	cfg       Config
	nodes     *store.Table[Node]
	loads     *store.Table[Load]
	tokens    *store.Table[tokenRecord]
	presences *store.Table[presenceRecord]
	removed   *store.Table[removedRecord]
	view      view
	presence  *presence
	turns     atomic.Uint64
	cancel    context.CancelFunc
	done      sync.WaitGroup
}

// New starts the service: it reads the nodes and follows their records until Close.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg:    cfg.withDefaults(),
		nodes:  store.NewTable[Node](cfg.Store, "placement-nodes"),
		loads:  store.NewTable[Load](cfg.Store, "placement-loads"),
		tokens: store.NewTable[tokenRecord](cfg.Store, "placement-tokens"),

		removed: store.NewTable[removedRecord](cfg.Store, "placement-removed"),
	}
	s.presences, s.presence = store.NewTable[presenceRecord](cfg.Store, "placement-presence"), newPresence()
	s.view.init()
	// The service outlives the call that starts it; Close ends it.
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := follow(ctx, &s.done, s.nodes, s.view.setNodes, s.view.applyNode); err != nil {
		s.Close()
		return nil, fmt.Errorf("follow nodes: %w", err)
	}
	if err := follow(ctx, &s.done, s.loads, s.view.setLoads, s.view.applyLoad); err != nil {
		s.Close()
		return nil, fmt.Errorf("follow loads: %w", err)
	}
	if err := s.forgetProcesses(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("read signs of life: %w", err)
	}
	if err := follow(ctx, &s.done, s.presences, s.presence.set, s.presence.apply); err != nil {
		s.Close()
		return nil, fmt.Errorf("follow signs of life: %w", err)
	}
	s.done.Go(func() { s.watchLiveness(ctx) })
	return s, nil
}

// Close ends the service's goroutines. The records stay.
func (s *Service) Close() {
	s.cancel()
	s.done.Wait()
}

// CA returns the cloud's certificate authority.
func (s *Service) CA() *CA { return s.cfg.CA }

// follow gives the table's records to set, and then every change to apply, until ctx ends. After a lost watch
// set gets all records anew.
func follow[T any](ctx context.Context, wg *sync.WaitGroup, table *store.Table[T],
	set func([]T), apply func(store.Change[T])) error {
	initial, changes, err := table.Watch(ctx, "")
	if err != nil {
		return err
	}
	set(initial)
	wg.Go(func() {
		for {
			for c := range changes {
				apply(c)
			}
			for {
				if ctx.Err() != nil {
					return
				}
				if initial, changes, err = table.Watch(ctx, ""); err == nil {
					set(initial)
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}
	})
	return nil
}

// watchLiveness marks silent nodes down, about three times in each DownAfter.
func (s *Service) watchLiveness(ctx context.Context) {
	tick := time.NewTicker(max(s.cfg.DownAfter/3, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.publish(ctx)
			s.Sweep(ctx)
		case <-ctx.Done():
			return
		}
	}
}
