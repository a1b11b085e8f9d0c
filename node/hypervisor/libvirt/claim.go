package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// fromPool makes a machine of the pool the one that p describes, paused with its medium in its drive. ok is false when
// there is none, or none that can become it: then it is made from the start.
func (d *Driver) fromPool(p *plan, t hypervisor.Template) (domain *libvirt.Domain, ok bool) {
	if !sameFileSystem(d.forkDir(), filepath.Dir(p.spec.ConsoleLog)) ||
		(p.spec.NIC.Socket != "" && !sameFileSystem(d.forkDir(), filepath.Dir(p.spec.NIC.Socket))) {
		return nil, false // its files could not be renamed
	}
	spare, ok := d.pools.take(t, p.spec)
	if !ok {
		return nil, false
	}
	domain, err := d.lookup(spare.name)
	if err == nil {
		if err = d.claim(domain, spare, p); err == nil {
			return domain, true
		}
		err = errors.Join(plain(err), domain.Free())
	}
	d.names.forget(p.spec.ID)
	err = errors.Join(plain(err), d.discard([]plan{spare}))
	d.cfg.Logger.Warn("a machine kept ready was of no use", "machine", p.spec.ID, "error", err)
	return nil, false
}

// claim gives a machine of the pool everything that makes it another: it keeps only its domain's name.
func (d *Driver) claim(domain *libvirt.Domain, spare plan, p *plan) error {
	if p.spec.NIC.Socket != "" {
		if err := os.Rename(spare.spec.NIC.Socket, p.spec.NIC.Socket); err != nil {
			return fmt.Errorf("move the network socket: %w", err)
		}
	}
	from, err := moveConsole(spare.spec.ConsoleLog, p.spec.ConsoleLog)
	if err != nil {
		return fmt.Errorf("move the console log: %w", err)
	}
	p.name, p.from = spare.name, from
	// From here on the next process would take it for a half-made copy, and remove it by its own notes.
	meta, err := xml.Marshal(p.notes())
	if err != nil {
		return fmt.Errorf("write the machine's metadata: %w", err)
	}
	err = domain.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, string(meta), metadataKey, metadataURI,
		libvirt.DOMAIN_AFFECT_LIVE|libvirt.DOMAIN_AFFECT_CONFIG)
	if err != nil {
		return fmt.Errorf("write the machine's metadata: %w", err)
	}
	d.names.take(p.spec.ID, p.name)
	if p.spec.Medium == "" {
		return nil
	}
	return changeMedium(domain, p.spec.Medium)
}

// moveConsole puts the log that QEMU has open in place of a machine's, and what that had before into it: its guest
// does not run yet. It returns how long the machine's log is until now.
func moveConsole(spare, log string) (int64, error) {
	to, err := os.OpenFile(spare, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	var n int64
	before, err := os.Open(log)
	if err == nil {
		n, err = io.Copy(to, before)
		err = errors.Join(err, before.Close())
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	return n, os.Rename(spare, log)
}

func sameFileSystem(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Stat(a, &sa) == nil && unix.Stat(b, &sb) == nil && sa.Dev == sb.Dev
}
