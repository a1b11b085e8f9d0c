package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudtwin/cloudtwin/node/console"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

const (
	// spareBytes is what has to be left on the disk beside a template's memory: its state, and room for others.
	spareBytes = 64 << 20
	// cleanupTimeout bounds the end of a machine whose template came to nothing.
	cleanupTimeout = 10 * time.Second
	consoleFile    = "console.log"
)

// obtain finds the template of a shape on the disk or makes it, and fills in a.
func (m *Manager) obtain(ctx context.Context, shape Shape, a *attempt) error {
	ground, err := m.forker.Ground(ctx)
	if err != nil {
		return fmt.Errorf("ask what templates depend on: %w", err)
	}
	if a.key, err = shape.key(ground); err != nil {
		return err
	}
	unlock, err := lock(ctx, m.lockPath(a.key))
	if err != nil {
		return err
	}
	defer unlock()
	m.removeUnfinished(a.key)
	folder := filepath.Join(m.cfg.Dir, a.key)
	err = m.find(folder, a.key)
	if err == nil {
		a.template = files(folder)
		return m.hold(folder, a.key)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("template is not usable and is made anew", "image", shape.Flavour, "key", a.key, "error", err)
	}
	release, err := m.cfg.Admit(ctx, shape.MemoryMB)
	if err != nil {
		return fmt.Errorf("wait for room to make a template: %w", err)
	}
	defer release()
	if err := m.build(ctx, shape, a.key, ground); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.rejected, a.key)
	m.mu.Unlock()
	a.template, a.made = files(folder), true
	m.clean(shape.Flavour, a.key)
	return m.hold(folder, a.key)
}

// find checks what is on the disk.
func (m *Manager) find(folder, key string) error {
	m.mu.Lock()
	rejected := m.rejected[key]
	m.mu.Unlock()
	if rejected {
		return errors.New("the hypervisor refused it")
	}
	return check(folder, key)
}

// build boots a guest, saves it as a template beside its place, and moves it there as a whole. The caller has the
// key's lock.
func (m *Manager) build(ctx context.Context, shape Shape, key, ground string) (err error) {
	free, err := m.cfg.FreeBytes(m.cfg.Dir)
	if err != nil {
		return err
	}
	if want := uint64(shape.MemoryMB)<<20 + spareBytes; free < want {
		return fmt.Errorf("%w: %s has %d MB left, want %d", ErrSpace, m.cfg.Dir, free>>20, want>>20)
	}
	work, err := os.MkdirTemp(m.cfg.Dir, unfinishedPrefix+key+"-")
	if err != nil {
		return fmt.Errorf("make template: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	t := files(work)
	if err := m.boot(ctx, shape, key, t); err != nil {
		return fmt.Errorf("make template of %s: %w", shape.Flavour, err)
	}
	if err := describe(work, key, shape, ground); err != nil {
		return err
	}
	return m.install(work, filepath.Join(m.cfg.Dir, key))
}

// boot starts the template's guest, waits until it is ready and saves it.
func (m *Manager) boot(ctx context.Context, shape Shape, key string, t hypervisor.Template) error {
	spec := shape.Spec()
	spec.ID = machinePrefix + key[:keyBytes]
	spec.ConsoleLog = filepath.Join(filepath.Dir(t.Memory), consoleFile)
	spec.NIC = hypervisor.NIC{MAC: MAC, Socket: filepath.Join(m.cfg.SocketDir, "template-"+key[:8]+".sock")}
	if err := m.endOld(ctx, spec.ID); err != nil {
		return err
	}
	if err := os.Remove(spec.NIC.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	machine, err := m.forker.StartTemplate(ctx, spec, t)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	err = m.awaitReady(ctx, machine)
	if err == nil {
		if err = m.forker.SaveTemplate(ctx, machine, t); err != nil {
			err = fmt.Errorf("save: %w", err)
		}
	}
	// Saving ends the machine; killing one that is gone is harmless, and frees what a failure left.
	killCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if killErr := machine.Kill(killCtx); killErr != nil && !errors.Is(killErr, hypervisor.ErrNotFound) {
		err = errors.Join(err, fmt.Errorf("end: %w", killErr))
	}
	_ = os.Remove(spec.NIC.Socket)
	return err
}

// endOld ends the machine of an attempt whose process was killed.
func (m *Manager) endOld(ctx context.Context, id string) error {
	old, err := m.cfg.Driver.Find(ctx, id)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = old.Kill(ctx)
	}
	if err != nil {
		return fmt.Errorf("end the machine of an earlier attempt: %w", err)
	}
	return nil
}

// awaitReady reads the console until the guest says that it waits for its medium.
func (m *Manager) awaitReady(ctx context.Context, machine hypervisor.Machine) error {
	timeout := m.timeout()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	serial, err := machine.Console(ctx)
	if err != nil {
		return fmt.Errorf("read console: %w", err)
	}
	defer func() { _ = serial.Close() }()
	// A reader that does not look at its context is ended by closing it.
	stop := context.AfterFunc(ctx, func() { _ = serial.Close() })
	defer stop()
	var tail console.Tail
	ready, failed := false, ""
	_ = console.Scan(serial, func(line []byte) {
		tail.Add(line)
		milestone, ok := console.Parse(line, time.Now())
		switch {
		case !ok:
		case milestone.GetStage() == ReadyStage:
			ready = true
			cancel()
		case milestone.GetStage() == "failed":
			failed = "it says that it failed: " + milestone.GetAttributes()["reason"]
			cancel()
		}
	}, func(int64) {})
	switch {
	case ready:
		return nil
	case failed != "":
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		failed = fmt.Sprintf("nothing of it within %v", timeout)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		failed = "it ended"
	}
	return fmt.Errorf("%w: %s %s%s", ErrNotReady, failed, tail.Fault(), tail.Section())
}

func (m *Manager) timeout() time.Duration {
	if m.cfg.Timeout > 0 {
		return m.cfg.Timeout
	}
	// The driver may learn what it runs on while it starts, so it is asked each time.
	if t := m.cfg.Driver.Info().BootTimeout; t > 0 {
		return t
	}
	return time.Minute
}
