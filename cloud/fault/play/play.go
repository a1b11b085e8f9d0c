// Package play has a cloud's faults happen when their time comes. Those of the API and the store happen in its own
// hooks (API, Store); those of nodes and guests are ordered from the nodes (Server), which follow them (node/fault).
// The schedule that is loaded is kept in a file, and what began, ended or happened is told to the journal.
//
// Read Player, then hooks.go and nodes.go.
package play

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Errors that callers test for with errors.Is.
var (
	ErrUnknown = errors.New("no such fault")
	ErrExists  = errors.New("a fault with this id is there already")
	ErrFull    = errors.New("too many faults")
)

// UnsupportedError means that a kind of fault cannot happen where it was to.
type UnsupportedError struct {
	Kind   fault.Kind
	Driver string // what runs the guests there
	Node   string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s cannot be done by the driver %s of node %s; 'cloudtwin fault kinds' lists what there is",
		e.Kind, e.Driver, e.Node)
}

// State is where a fault is in its life.
type State string

// The states of a fault.
const (
	Pending State = "pending"
	Active  State = "active"
	Ended   State = "ended"
)

// Status is a fault and what became of it.
type Status struct {
	fault.Fault
	State State     `json:"state"`
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Applied is how often it has happened, and Refused how often it could not, for the reason Why.
	Applied int    `json:"applied"`
	Refused int    `json:"refused,omitempty"`
	Why     string `json:"why,omitempty"`
}

// Config of a Player. The zero value is usable.
type Config struct {
	// Journal is told of faults; nil means nobody.
	Journal *journal.Journal
	// File keeps the schedule that is loaded, for whoever wants to play it again; empty means none.
	File   string
	Logger *slog.Logger // default: silence
}

// Player plays faults. Its methods may be called from any goroutine.
type Player struct {
	cfg    Config
	stop   context.CancelFunc
	done   chan struct{}
	change chan struct{} // capacity 1: the loop is to look again
	busy   atomic.Bool   // a fault of the API or the store is active

	mu       sync.Mutex
	seed     uint64
	comment  string
	base     time.Time // what At counts from; zero while there were never any faults
	entries  []*entry
	named    int // for ids that nobody gave
	revision uint64
	begun    uint64
	wake     chan struct{} // closed at the next change of what nodes are to do
	nodes    map[string]*node
	joins    chan struct{} // closed when the next node joins
}

type entry struct {
	Status
	info    fault.Info
	order   uint64 // in which they began
	chance  *rand.Rand
	limiter *rate.Limiter // of fault.APIThrottle
}

// New returns a player without faults. Close ends it.
func New(cfg Config) *Player {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Player{cfg: cfg, stop: stop, done: make(chan struct{}), change: make(chan struct{}, 1),
		wake: make(chan struct{}), nodes: map[string]*node{}, joins: make(chan struct{})}
	go p.run(ctx)
	return p
}

// Close ends the player and with it all faults of the API and the store.
func (p *Player) Close() {
	p.stop()
	<-p.done
	p.busy.Store(false)
}

// Add adds a fault, whose At counts from now, and returns it as it is kept: with an id, and At from the time when the
// first fault was loaded. One that begins at once is followed by all nodes that are connected when Add returns, but for
// those that do not answer within a second. The error is fault.ErrInvalid, ErrExists, ErrFull or *UnsupportedError.
func (p *Player) Add(ctx context.Context, f fault.Fault) (fault.Fault, error) {
	if f.ID == "" {
		f.ID = p.name()
	}
	if err := f.Validate(); err != nil {
		return f, err
	}
	if err := p.supported(f); err != nil {
		return f, err
	}
	now := time.Now()
	p.mu.Lock()
	p.begin(now)
	f.At.Duration += now.Sub(p.base).Truncate(time.Microsecond)
	err := p.insert(f)
	p.mu.Unlock()
	if err != nil {
		return f, err
	}
	return f, p.settle(ctx)
}

// name makes an id that is not taken.
func (p *Player) name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		p.named++
		id := "f" + strconv.Itoa(p.named)
		if p.find(id) == nil {
			return id
		}
	}
}

// begin makes now the time that At counts from, unless there is one. The caller holds mu.
func (p *Player) begin(now time.Time) {
	if p.base.IsZero() {
		p.base = now
	}
}

// insert keeps a fault. The caller holds mu.
func (p *Player) insert(f fault.Fault) error {
	if p.find(f.ID) != nil {
		return fmt.Errorf("%w: %s", ErrExists, f.ID)
	}
	if len(p.entries) >= fault.MaxFaults {
		oldest := slices.IndexFunc(p.entries, func(e *entry) bool { return e.State == Ended })
		if oldest < 0 {
			return fmt.Errorf("%w: %d are there; clear some", ErrFull, len(p.entries))
		}
		p.entries = slices.Delete(p.entries, oldest, oldest+1)
	}
	info, _ := fault.InfoOf(f.Kind)
	e := &entry{Status: Status{Fault: f, State: Pending}, info: info, chance: f.Chance(p.seed)}
	if f.Kind == fault.APIThrottle {
		e.limiter = rate.NewLimiter(rate.Limit(f.Number("perSecond")), max(f.Number("perSecond"), 1))
		if f.Number("perSecond") == 0 {
			e.limiter = rate.NewLimiter(0, 0)
		}
	}
	p.entries = append(p.entries, e)
	return nil
}

func (p *Player) find(id string) *entry {
	for _, e := range p.entries {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// Load ends all faults and plays a schedule from now on. See Add for its errors.
func (p *Player) Load(ctx context.Context, s fault.Schedule) error {
	if err := s.Validate(); err != nil {
		return err
	}
	for _, f := range s.Faults {
		if err := p.supported(f); err != nil {
			return fmt.Errorf("fault %s: %w", f.ID, err)
		}
	}
	now := time.Now()
	p.mu.Lock()
	p.endAll(now)
	p.entries, p.seed, p.comment, p.base = nil, s.Seed, s.Comment, now
	for _, f := range s.Faults {
		if err := p.insert(f); err != nil {
			p.mu.Unlock()
			return err
		}
	}
	p.mu.Unlock()
	return p.settle(ctx)
}

// Clear ends the fault of that id, or all when it is empty, and forgets those that have not begun. ErrUnknown when
// there is none of that id that has not ended.
func (p *Player) Clear(ctx context.Context, id string) error {
	now := time.Now()
	p.mu.Lock()
	if id == "" {
		p.endAll(now)
	} else {
		e := p.find(id)
		if e == nil || e.State == Ended {
			p.mu.Unlock()
			return fmt.Errorf("%w that goes on or is to begin: %s", ErrUnknown, id)
		}
		p.finish(e, now)
	}
	p.mu.Unlock()
	return p.settle(ctx)
}

func (p *Player) endAll(now time.Time) {
	for _, e := range slices.Clone(p.entries) {
		if e.State != Ended {
			p.finish(e, now)
		}
	}
}

// finish ends a fault before its time. The caller holds mu.
func (p *Player) finish(e *entry, now time.Time) {
	if e.State == Pending {
		p.entries = slices.DeleteFunc(p.entries, func(other *entry) bool { return other == e })
		return
	}
	if !e.info.Moment {
		e.For.Duration = max(now.Sub(e.Began).Truncate(time.Microsecond), time.Microsecond) // so it is played again
	}
	p.end(e, now)
}

// List returns the faults that are loaded, by the time of their beginning.
func (p *Player) List() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Status, 0, len(p.entries))
	for _, e := range p.entries {
		out = append(out, e.Status)
	}
	slices.SortStableFunc(out, func(a, b Status) int { return cmp.Compare(a.At.Duration, b.At.Duration) })
	return out
}

// Schedule returns what is loaded: faults that were cleared last as long as they did. Of a moment that has passed it
// says when it was.
func (p *Player) Schedule() fault.Schedule {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.schedule()
}

func (p *Player) schedule() fault.Schedule {
	s := fault.Schedule{Version: fault.Version, Seed: p.seed, Comment: p.comment}
	for _, e := range p.entries {
		s.Faults = append(s.Faults, e.Fault)
	}
	slices.SortStableFunc(s.Faults, func(a, b fault.Fault) int { return cmp.Compare(a.At.Duration, b.At.Duration) })
	return s
}

// settle has happen what is due, and waits for the nodes to have followed.
func (p *Player) settle(ctx context.Context) error {
	p.advance(time.Now())
	select {
	case p.change <- struct{}{}:
	default:
	}
	if err := p.keep(); err != nil {
		return err
	}
	p.awaitNodes(ctx)
	return nil
}

// keep writes the schedule's file.
func (p *Player) keep() error {
	if p.cfg.File == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	temporary := p.cfg.File + ".new"
	err := os.WriteFile(temporary, p.schedule().JSON(), 0o600)
	if err == nil {
		err = os.Rename(temporary, p.cfg.File)
	}
	if err != nil {
		return fmt.Errorf("keep the schedule of faults: %w", err)
	}
	return nil
}
