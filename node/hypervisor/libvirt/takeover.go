package libvirt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// takeOver looks at the domains that are there: it returns their states by domain name. With sweep, no other driver of
// this process uses the root, and what an earlier one had not finished is removed.
func (d *Driver) takeOver(conn *libvirt.Connect, sweep bool) (map[string]hypervisor.State, error) {
	domains, err := conn.ListAllDomains(0)
	if err != nil {
		return nil, unavailable("list the machines", err)
	}
	known := map[string]hypervisor.State{}
	var errs []error
	for i := range domains {
		if err := d.adopt(&domains[i], known, sweep); err != nil && !is(err, libvirt.ERR_NO_DOMAIN) {
			errs = append(errs, plain(err))
		}
		errs = append(errs, domains[i].Free())
	}
	if sweep {
		errs = append(errs, d.emptyForkDir())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: take over the machines of an earlier process: %w", hypervisor.ErrUnavailable, err)
	}
	return known, nil
}

func (d *Driver) adopt(domain *libvirt.Domain, known map[string]hypervisor.State, sweep bool) error {
	name, err := domain.GetName()
	if err != nil {
		return err
	}
	text, err := domain.GetXMLDesc(0)
	if err != nil {
		return err
	}
	n, _, ok := readNotes(text)
	if _, ours := d.names.machine(name); !ok || (!ours && !d.names.fromPool(name)) {
		return nil // somebody else's
	}
	if err := settle(domain); err != nil {
		return err
	}
	state, reason, err := domain.GetState()
	if err != nil {
		return err
	}
	if !n.Kind.lasts() || (n.Kind == fork && state == libvirt.DOMAIN_PAUSED) {
		if !sweep {
			return nil
		}
		d.cfg.Logger.Info("removing what an earlier process had not finished", "domain", name, "kind", n.Kind)
		return d.destroy(domain, name, n)
	}
	if d.names.fromPool(name) {
		d.names.take(n.ID, name)
	}
	m := &machine{driver: d, notes: n}
	known[name] = m.translate(state, reason)
	return nil
}

// settle waits until libvirt has found out whether a QEMU of an earlier process is still there. Until then it tells
// what it wrote down. Its answer to a question that QEMU itself has to be asked waits for that.
func settle(domain *libvirt.Domain) error {
	_, err := domain.MemoryStats(1, 0)
	if is(err, libvirt.ERR_NO_DOMAIN) {
		return err
	}
	return nil // what else is wrong is told by the state that follows
}

// forkDir is the folder of what exists only while copies are made: the sockets of their states, and the consoles and
// network sockets of those that wait in the pool.
func (d *Driver) forkDir() string { return filepath.Join(d.cfg.Root, "fork") }

func (d *Driver) emptyForkDir() error {
	if err := os.RemoveAll(d.forkDir()); err != nil {
		return fmt.Errorf("empty the folder of copies: %w", err)
	}
	if err := os.Mkdir(d.forkDir(), 0o700); err != nil {
		return fmt.Errorf("make the folder of copies: %w", err)
	}
	return nil
}
