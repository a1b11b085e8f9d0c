package libvirt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var (
	_ hypervisor.Forker   = (*Driver)(nil)
	_ hypervisor.Admitter = (*Driver)(nil)
)

// StartTemplate boots a guest whose memory is the file t.Memory.
func (d *Driver) StartTemplate(ctx context.Context, spec hypervisor.Spec, t hypervisor.Template) (
	hypervisor.Machine, error,
) {
	return d.launch(ctx, spec, func(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
		if err := d.canFork(); err != nil {
			return nil, err
		}
		if err := makeMemory(t.Memory, ramBytes(spec)); err != nil {
			return nil, err
		}
		p := plan{name: d.names.domain(spec.ID), spec: spec, kind: template, ram: t.Memory}
		domain, err := d.create(ctx, &p, libvirt.DOMAIN_NONE)
		if err != nil {
			return nil, errors.Join(err, removeFile(t.Memory))
		}
		return d.machine(p.notes()), domain.Free()
	})
}

// makeMemory makes the file of a template's memory. Its space is taken at once: a guest that writes where the disk is
// full would be ended by a signal.
func makeMemory(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the template's memory: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = f.Truncate(size) // a file system that cannot promise
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("make the template's memory %s of %d bytes: %w", path, size, err), removeFile(path))
	}
	return nil
}

// SaveTemplate stops the template's guest, keeps the state of its devices, and ends it.
func (d *Driver) SaveTemplate(ctx context.Context, m hypervisor.Machine, t hypervisor.Template) error {
	err := d.onDomain(ctx, "save", m.ID(), func(domain *libvirt.Domain) error {
		if err := domain.Suspend(); err != nil {
			return err
		}
		return d.saveState(ctx, domain, t.State)
	})
	if err != nil {
		if hostAtFault(err) {
			err = fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, err)
		}
		return errors.Join(err, removeFile(t.State), m.Kill(context.WithoutCancel(ctx)))
	}
	return m.Kill(ctx)
}

// Fork starts a machine as a copy of a template: one that is ready when there is one.
func (d *Driver) Fork(ctx context.Context, spec hypervisor.Spec, t hypervisor.Template) (hypervisor.Machine, error) {
	defer d.pools.begin()()
	return d.launch(ctx, spec, func(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
		p := plan{name: d.names.domain(spec.ID), spec: spec, kind: fork, ram: t.Memory}
		if err := errors.Join(d.canFork(), d.absent(p.name), checkFiles(spec)); err != nil {
			return nil, err
		}
		domain, ok := d.fromPool(&p, t)
		if !ok {
			if err := checkTemplate(spec, t); err != nil {
				return nil, err
			}
			var err error
			if domain, err = d.copy(ctx, &p, t); err != nil {
				return nil, err
			}
		}
		defer domain.Free() //nolint:errcheck // it cannot fail for a valid domain
		err := ctx.Err()    // asked before its guest runs and an event says so
		if err == nil && len(d.spoiledFor(spec.ID)) > 0 {
			err = d.spoil(domain, spec.ID)
		}
		if err == nil {
			err = domain.Resume()
		}
		if err != nil {
			err = errors.Join(plain(err), d.destroy(domain, p.name, p.notes()))
			d.names.forget(spec.ID)
			return nil, err
		}
		return d.machine(p.notes()), nil
	})
}

// canFork refuses daemons: a state goes through a socket in the embedded driver's own folder.
func (d *Driver) canFork() error {
	if !d.cfg.embedded() {
		return fmt.Errorf("copies of a template through %s: %w", d.cfg.URI, errors.ErrUnsupported)
	}
	return nil
}

// copy makes a domain that has the template's state and is paused, or leaves nothing of it. When a QEMU does not load
// the state, or not in time, another one is asked, once: one that hangs or crashes says nothing about the template, and
// what a refusal costs is many times as much, for all guests of that template.
func (d *Driver) copy(ctx context.Context, p *plan, t hypervisor.Template) (domain *libvirt.Domain, err error) {
	for _, patience := range d.loadTimes {
		domain, err = d.copyWithin(ctx, patience, p, t)
		late, refused := errors.Is(err, context.DeadlineExceeded), errors.Is(err, hypervisor.ErrTemplate)
		if ctx.Err() != nil || !late && !refused {
			break
		}
		d.cfg.Logger.WarnContext(ctx, "QEMU did not load a template's state", "domain", p.name, "within", patience,
			"error", err)
	}
	return domain, err
}

func (d *Driver) copyWithin(ctx context.Context, patience time.Duration, p *plan, t hypervisor.Template) (
	*libvirt.Domain, error,
) {
	domain, err := d.create(ctx, p, libvirt.DOMAIN_START_PAUSED)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.loadState(ctx, domain, p.name, t.State); err != nil {
		return nil, errors.Join(plain(err), d.destroy(domain, p.name, p.notes()), domain.Free())
	}
	return domain, nil
}

// stateMagic begins what QEMU writes of a machine's state: "QEVM", and the version of the format (QEMU,
// docs/devel/migration).
var stateMagic = binary.BigEndian.AppendUint64(nil, 0x5145564d_00000003)

// checkTemplate finds what would make a copy come to nothing, or to something else than its template.
func checkTemplate(spec hypervisor.Spec, t hypervisor.Template) error {
	bad := func(err error) error { return fmt.Errorf("%w: %w", hypervisor.ErrTemplate, err) }
	if err := errors.Join(checkFile("memory", t.Memory), checkFile("state", t.State)); err != nil {
		return bad(err)
	}
	memory, err := os.Stat(t.Memory)
	if err != nil {
		return bad(err)
	}
	if memory.Size() != ramBytes(spec) {
		return bad(fmt.Errorf("%s has %d bytes, the machine %d", t.Memory, memory.Size(), ramBytes(spec)))
	}
	state, err := os.Open(t.State)
	if err != nil {
		return bad(err)
	}
	defer state.Close()
	head := make([]byte, len(stateMagic))
	if _, err := io.ReadFull(state, head); err != nil || string(head) != string(stateMagic) {
		return bad(fmt.Errorf("%s is no state of QEMU's", filepath.Base(t.State)))
	}
	return nil
}
