package libvirt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// errRehearsal means that a copy did not finish its rehearsal.
var errRehearsal = errors.New("rehearsal failed")

// Bounds of a rehearsal, which takes 1 to 2 s of processor time.
const (
	rehearsalTime  = 30 * time.Second // that the guest may run, on a host that is busy with other things
	maxRehearsal   = 64 << 10         // bytes of console
	rehearsalTicks = int(rehearsalTime / readyTick)
)

// rehearse has the guest of a copy that nobody has taken yet play its start with a medium of its own. Afterwards the
// copy is paused, and its drive empty. An error is errRehearsal, or errClosed when the driver is being closed.
func (d *Driver) rehearse(domain *libvirt.Domain, log string, r *hypervisor.Rehearsal) (err error) {
	medium := log + ".img" // no other has its name: libvirt would not change a medium for itself
	defer func() {
		if err = errors.Join(err, wipeFile(medium)); err != nil && !errors.Is(err, errClosed) {
			err = fmt.Errorf("%w: %w", errRehearsal, plain(err))
		}
	}()
	if err := r.Medium(medium); err != nil {
		return err
	}
	if err := changeMedium(domain, medium); err != nil {
		return err
	}
	if err := domain.Resume(); err != nil {
		return err
	}
	if err := d.watchRehearsal(domain, log, r.Done); err != nil {
		return err
	}
	if err := domain.Suspend(); err != nil {
		return err
	}
	if err := changeMedium(domain, ""); err != nil {
		return err
	}
	return os.Truncate(log, 0) // QEMU appends
}

// watchRehearsal returns when the guest has said that it is done. It pauses the copy while the host is needed for
// others.
func (d *Driver) watchRehearsal(domain *libvirt.Domain, log string, done func([]byte) bool) error {
	ticker := time.NewTicker(readyTick)
	defer ticker.Stop()
	for ran := 0; ran < rehearsalTicks; ran++ {
		select {
		case <-ticker.C:
		case <-d.quit:
			return errClosed
		}
		over, err := saidDone(log, done)
		if err != nil || over {
			return err
		}
		state, _, err := domain.GetState()
		if err != nil {
			return err
		}
		if state != libvirt.DOMAIN_RUNNING && state != libvirt.DOMAIN_BLOCKED {
			return fmt.Errorf("its machine is in state %d", state)
		}
		if d.pools.needed() {
			if err := d.standBack(domain, ticker); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("it was not done after %v", rehearsalTime)
}

// standBack pauses a copy until no start needs the host.
func (d *Driver) standBack(domain *libvirt.Domain, ticker *time.Ticker) error {
	if err := domain.Suspend(); err != nil {
		return err
	}
	for d.pools.needed() {
		select {
		case <-ticker.C:
		case <-d.quit:
			return errClosed
		}
	}
	return domain.Resume()
}

// saidDone looks for the line in a console log that ends a rehearsal.
func saidDone(log string, done func([]byte) bool) (bool, error) {
	file, err := os.Open(log)
	if err != nil {
		return false, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxRehearsal+1))
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(text) {
		if bytes.HasSuffix(line, []byte("\n")) && done(line) {
			return true, nil
		}
	}
	if len(text) > maxRehearsal {
		return false, fmt.Errorf("it said more than %d bytes", maxRehearsal)
	}
	return false, nil
}

// wipeFile overwrites and removes a file, which may be gone already.
func wipeFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errors.Join(err, removeFile(path))
	}
	info, err := file.Stat()
	if err == nil {
		_, err = file.Write(make([]byte, info.Size()))
	}
	return errors.Join(err, file.Close(), removeFile(path))
}
