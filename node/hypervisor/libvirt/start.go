package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Start defines and starts a machine. When ctx ends before it runs, nothing of it is left.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	return d.launch(ctx, spec, d.start)
}

// launch does what all starts have in common around f, which gets the checked spec.
func (d *Driver) launch(ctx context.Context, spec hypervisor.Spec, f launcher) (hypervisor.Machine, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("start machine %q: %w", spec.ID, err)
	}
	spec.ConsoleLog = filepath.Clean(spec.ConsoleLog)
	if err := d.Warm(ctx); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", spec.ID, err)
	}
	var m hypervisor.Machine
	err := d.call(ctx, func() (err error) {
		unlock := d.ids.lock(spec.ID)
		defer unlock()
		m, err = f(ctx, spec)
		if err == nil {
			d.remains.forget(spec.ID)
		}
		if err == nil && ctx.Err() != nil {
			// Nobody waits for the machine any more.
			err = errors.Join(ctx.Err(), d.kill(spec.ID))
		}
		return err
	})
	if err != nil {
		return nil, d.startError(spec, err)
	}
	return m, nil
}

// launcher starts a machine for the holder of its id's lock.
type launcher func(context.Context, hypervisor.Spec) (hypervisor.Machine, error)

func (d *Driver) startError(spec hypervisor.Spec, err error) error {
	err = plain(err)
	switch {
	case errors.Is(err, hypervisor.ErrExists), errors.Is(err, hypervisor.ErrUnavailable),
		errors.Is(err, hypervisor.ErrTemplate),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("start machine %s: %w", spec.ID, err)
	case hostAtFault(err):
		return fmt.Errorf("start machine %s: %w: %w", spec.ID, hypervisor.ErrUnavailable, err)
	default:
		return &hypervisor.Error{Op: "start", MachineID: spec.ID, Err: err}
	}
}

func (d *Driver) start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	p := plan{name: d.names.domain(spec.ID), spec: spec}
	bad, flags := d.spoiledFor(spec.ID), libvirt.DOMAIN_NONE
	if len(bad) > 0 {
		flags = libvirt.DOMAIN_START_PAUSED
	}
	domain, err := d.create(ctx, &p, flags)
	if err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		if err := errors.Join(d.spoil(domain, spec.ID), domain.Resume()); err != nil {
			return nil, errors.Join(plain(err), d.destroy(domain, p.name, p.notes()), domain.Free())
		}
	}
	return d.machine(p.notes()), domain.Free()
}

// create defines a machine's domain and creates it, or leaves nothing of it.
func (d *Driver) create(ctx context.Context, p *plan, flags libvirt.DomainCreateFlags) (
	domain *libvirt.Domain, err error,
) {
	if err := d.absent(p.name); err != nil {
		return nil, err
	}
	if err := checkFiles(p.spec); err != nil {
		return nil, err
	}
	if p.from, err = prepareConsole(p.spec.ConsoleLog); err != nil {
		return nil, err
	}
	text, err := define(d.warm.ground, *p)
	if err != nil {
		return nil, err
	}
	before := d.lines.current()
	defer func() { d.lines.halfMade(before, p.name, err) }()
	domain, err = d.defineDomain(text)
	if err != nil {
		return nil, fmt.Errorf("define the domain: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, d.remove(domain), domain.Free())
	}
	if err := domain.CreateWithFlags(flags); err != nil {
		return nil, errors.Join(plain(err), d.destroy(domain, p.name, p.notes()), domain.Free())
	}
	return domain, nil
}

// absent is ErrExists when there is a domain of that name.
func (d *Driver) absent(name string) error {
	domain, err := d.lookup(name)
	if err == nil {
		return errors.Join(hypervisor.ErrExists, domain.Free())
	}
	if !is(err, libvirt.ERR_NO_DOMAIN) {
		return err
	}
	return nil
}

// remove takes a domain that does not run out of libvirt.
func (d *Driver) remove(domain *libvirt.Domain) error {
	err := domain.UndefineFlags(libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
	if err != nil && !is(err, libvirt.ERR_NO_DOMAIN) {
		return fmt.Errorf("remove the domain: %w", plain(err))
	}
	return nil
}

// checkFiles finds what is wrong with the machine's files before QEMU does, which would tell less clearly.
func checkFiles(spec hypervisor.Spec) error {
	var errs []error
	for _, f := range []struct{ what, path string }{
		{"kernel", spec.Kernel}, {"initrd", spec.Initrd}, {"medium", spec.Medium},
	} {
		if f.path != "" {
			errs = append(errs, checkFile(f.what, f.path))
		}
	}
	if spec.NIC.Socket != "" {
		info, err := os.Stat(filepath.Dir(spec.NIC.Socket))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("folder of the network socket: %w", err))
		case !info.IsDir() || info.Mode().Perm()&0o077 != 0:
			errs = append(errs, fmt.Errorf("folder of the network socket %s: want mode 0700, not %v: "+
				"who can connect is on the machine's network", filepath.Dir(spec.NIC.Socket), info.Mode().Perm()))
		}
	}
	return errors.Join(errs...)
}

func checkFile(what, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %s is no regular file", what, path)
	}
	return nil
}

// prepareConsole makes the console log and returns its length: QEMU appends, and would make the file readable for
// others.
func prepareConsole(path string) (int64, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("console log: %w", err)
	}
	info, err := file.Stat()
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, fmt.Errorf("console log: %w", err)
	}
	return info.Size(), nil
}

// removeFile removes a file that may be gone already.
func removeFile(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
