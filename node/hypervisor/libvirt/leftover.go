package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// RemoveAll ends and removes every machine, running or not, that drivers with cfg's URI and NamePrefix left in that
// daemon. Both must be set. No driver may use them meanwhile. The error wraps hypervisor.ErrUnavailable when the daemon
// cannot be reached; a machine that cannot be removed does not keep the others.
func RemoveAll(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.embedded() || cfg.NamePrefix == "" {
		return errors.New("remove machines from a libvirt daemon: config URI and NamePrefix must be set")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if err := loop.acquire(""); err != nil {
		return unavailable("start libvirt", err)
	}
	done := make(chan error, 1)
	go func() {
		defer loop.release()
		done <- (&Driver{cfg: cfg, names: newNames(cfg.NamePrefix), lines: newLines(cfg)}).removeAll()
	}()
	select {
	case err = <-done:
	case <-ctx.Done(): // it goes on by itself
		err = fmt.Errorf("%w: no answer: %w", hypervisor.ErrUnavailable, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("remove the machines %s* from libvirt at %s: %w", cfg.NamePrefix, cfg.URI, err)
	}
	return nil
}

func (d *Driver) removeAll() (err error) {
	conn, err := d.lines.open()
	if err != nil {
		return fmt.Errorf("%w: connect: %w", hypervisor.ErrUnavailable, plain(err))
	}
	defer func() { err = errors.Join(err, claimed.release(conn)) }()
	domains, err := conn.ListAllDomains(0)
	if err != nil {
		return fmt.Errorf("%w: list the machines: %w", hypervisor.ErrUnavailable, plain(err))
	}
	var errs []error
	for i := range domains {
		errs = append(errs, d.removeOwn(&domains[i]), domains[i].Free())
	}
	return errors.Join(errs...)
}

// removeOwn ends and removes a domain that has our prefix and our notes; others are somebody else's.
func (d *Driver) removeOwn(domain *libvirt.Domain) error {
	name, err := domain.GetName()
	if err != nil || !strings.HasPrefix(name, d.cfg.NamePrefix) {
		return plain(err)
	}
	text, err := domain.GetXMLDesc(0)
	if is(err, libvirt.ERR_NO_DOMAIN) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, plain(err))
	}
	n, _, ours := readNotes(text)
	if !ours {
		return nil
	}
	if err := d.destroy(domain, name, n); err != nil {
		return fmt.Errorf("remove %s: %w", name, plain(err))
	}
	return nil
}
