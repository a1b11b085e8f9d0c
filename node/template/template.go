// Package template keeps the templates that guests are forked from: guests that were booted once, to the point where
// they wait for their medium, and whose memory and devices then lie in files. It makes them when they are first asked
// for, checks them before their first use in a process, makes them again when they are damaged, and removes those that
// nobody uses any more. The files are shared by all nodes of a user.
//
// Not in here: how a machine is saved and copied (hypervisor.Forker), when a guest is forked and what happens when that
// fails (package controller). Read Get first, then build.go, then disk.go.
package template

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Errors that callers test for with errors.Is.
var (
	// ErrClosed means that the manager was closed.
	ErrClosed = errors.New("templates are closed")
	// ErrSpace means that the disk has no room for a template.
	ErrSpace = errors.New("no space for a template")
	// ErrTooLarge means that a guest has so much memory that a template of it is not worth its disk.
	ErrTooLarge = errors.New("guest is too large for a template")
	// ErrNotReady means that the template's guest did not come to the point where it waits for its medium.
	ErrNotReady = errors.New("the template's guest did not become ready")
)

// Config of a Manager. Driver, Dir and SocketDir are required.
type Config struct {
	// Driver must be a hypervisor.Forker too.
	Driver hypervisor.Driver
	// Dir holds the templates, a folder each; made with mode 0700. Any number of processes may use it.
	Dir string
	// SocketDir is where the template's network card listens while it boots, though nobody dials it: mode 0700, short
	// enough for a socket's path.
	SocketDir string
	// Admit waits until the host has room for a boot of so much memory; release is called at its end. Default: at once.
	Admit func(ctx context.Context, memoryMB int) (release func(), err error)
	// Timeout is how long a template's guest may take to become ready; default what the driver says, or 60 s.
	Timeout time.Duration
	// Retry is the pause after a template could not be made before it is tried again; default 1 min.
	Retry time.Duration
	// MaxMemoryMB is the most memory that a template may have; default 1024.
	MaxMemoryMB int
	// Keep is how many templates of one image may lie on the disk; default 4. The least recently used go first.
	Keep int
	// MaxAge is the time without use after which a template is removed; default 14 days.
	MaxAge time.Duration
	// FreeBytes tells how many bytes the file system of a folder has left for this user; default statfs(2).
	FreeBytes func(dir string) (uint64, error)
	Logger    *slog.Logger // default: silence
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Driver == nil {
		errs = append(errs, errors.New("template: Driver is required"))
	} else if _, ok := c.Driver.(hypervisor.Forker); !ok {
		errs = append(errs, errors.New("template: the driver cannot fork"))
	}
	if c.Dir == "" || c.SocketDir == "" {
		errs = append(errs, errors.New("template: Dir and SocketDir are required"))
	}
	if c.Timeout < 0 || c.Retry < 0 || c.MaxMemoryMB < 0 || c.Keep < 0 || c.MaxAge < 0 {
		errs = append(errs, errors.New("template: Timeout, Retry, MaxMemoryMB, Keep and MaxAge must not be negative"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Admit == nil {
		c.Admit = func(context.Context, int) (func(), error) { return func() {}, nil }
	}
	if c.Retry == 0 {
		c.Retry = time.Minute
	}
	if c.MaxMemoryMB == 0 {
		c.MaxMemoryMB = 1024
	}
	if c.Keep == 0 {
		c.Keep = 4
	}
	if c.MaxAge == 0 {
		c.MaxAge = 14 * 24 * time.Hour
	}
	if c.FreeBytes == nil {
		c.FreeBytes = freeBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Manager makes and keeps templates. Its methods may be called from any goroutine.
type Manager struct {
	cfg    Config
	log    *slog.Logger
	forker hypervisor.Forker
	ctx    context.Context //nolint:containedctx // the life of what is made in the background, ended by Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	attempts map[Shape]*attempt
	held     map[string]*os.File // by key: what keeps other processes from removing a template
	rejected map[string]bool     // keys whose template a driver refused: not to be taken from the disk again
}

// attempt is one try to come by a template, by whom it was asked for first.
type attempt struct {
	done chan struct{}
	// All below are set before done is closed.
	key      string
	template hypervisor.Template
	made     bool // it was made, not found
	err      error
	at       time.Time // its end
}

// New checks the configuration and makes the folder.
func New(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find template folder: %w", err)
	}
	cfg.Dir = dir
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make template folder: %w", err)
	}
	if err := checkPrivate(cfg.Dir); err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg.withDefaults(), attempts: map[Shape]*attempt{}, held: map[string]*os.File{}, rejected: map[string]bool{},
	}
	m.log = m.cfg.Logger
	m.forker, _ = cfg.Driver.(hypervisor.Forker)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Get returns the template of a shape, which it makes when there is none or it is damaged. That takes as long as a cold
// boot and goes on when ctx ends, for whoever asks next. After a failure the same error is returned for a while.
// ErrClosed, ErrTooLarge, ErrSpace, ErrNotReady, and the driver's errors.
func (m *Manager) Get(ctx context.Context, shape Shape) (hypervisor.Template, error) {
	a, err := m.attempt(shape)
	if err != nil {
		return hypervisor.Template{}, err
	}
	select {
	case <-a.done:
		return a.template, a.err
	case <-ctx.Done():
		return hypervisor.Template{}, fmt.Errorf("wait for the template of %s: %w", shape.Flavour, ctx.Err())
	}
}

// Warm begins to make a template in the background, if there is none.
func (m *Manager) Warm(shape Shape) { _, _ = m.attempt(shape) }

// attempt returns the latest try, or begins one.
func (m *Manager) attempt(shape Shape) (*attempt, error) {
	if err := shape.validate(); err != nil {
		return nil, err
	}
	if shape.MemoryMB > m.cfg.MaxMemoryMB {
		return nil, fmt.Errorf("%w: %d MB, at most %d", ErrTooLarge, shape.MemoryMB, m.cfg.MaxMemoryMB)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	a := m.attempts[shape]
	if a == nil || a.stale(m.cfg.Retry) {
		a = &attempt{done: make(chan struct{})}
		m.attempts[shape] = a
		m.work.Go(func() { m.try(shape, a) })
	}
	return a, nil
}

func (m *Manager) try(shape Shape, a *attempt) {
	defer close(a.done)
	began := time.Now()
	a.err = m.obtain(m.ctx, shape, a)
	a.at = time.Now()
	switch {
	case a.err != nil && m.ctx.Err() == nil:
		m.log.Warn("no template", "image", shape.Flavour, "error", a.err)
	case a.err == nil:
		m.log.Info("template ready", "image", shape.Flavour, "key", a.key, "made", a.made, "took", a.at.Sub(began))
	}
}

func (a *attempt) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func (a *attempt) stale(retry time.Duration) bool {
	return a.over() && a.err != nil && time.Since(a.at) >= retry
}

// Reject takes back a template that the driver would not fork (hypervisor.ErrTemplate): the next Get makes it anew. One
// that was made just now is not made again at once: then the fault is not the template's, and Get tells it for a while.
func (m *Manager) Reject(shape Shape, t hypervisor.Template, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.attempts[shape]
	if a == nil || !a.over() || a.err != nil || a.template != t {
		return // somebody else saw it first
	}
	m.rejected[a.key] = true
	if !a.made || time.Since(a.at) >= m.cfg.Retry {
		delete(m.attempts, shape)
		return
	}
	refused := &attempt{done: make(chan struct{}), err: cause, at: time.Now()}
	close(refused.done)
	m.attempts[shape] = refused
}

// Close ends what is being made, leaves nothing of it, and lets go of the templates. Forks go on.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.work.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, f := range m.held {
		errs = append(errs, f.Close())
	}
	clear(m.held)
	return errors.Join(errs...)
}
