package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var (
	_ hypervisor.MediumSpoiler = (*Driver)(nil)
	_ hypervisor.Pauser        = (*machine)(nil)
	_ hypervisor.Interrupter   = (*machine)(nil)
	_ hypervisor.Panicker      = (*machine)(nil)
)

// The names that a spoiled medium has in QEMU: libvirt's own node for it lies below, and comes back when this one goes.
const (
	floppyDevice = "fdc0-0-0"
	spoiled      = "spoiled-" // followed by the name of libvirt's node
)

// SpoilMedia implements hypervisor.MediumSpoiler by QEMU's blkdebug driver (QEMU, docs/devel/blkdebug).
func (d *Driver) SpoilMedia(ctx context.Context, id string, bad []hypervisor.Sectors) error {
	d.spoiling.Lock()
	if len(bad) == 0 {
		delete(d.spoiled, id)
	} else {
		if d.spoiled == nil {
			d.spoiled = map[string][]hypervisor.Sectors{}
		}
		d.spoiled[id] = slices.Clone(bad)
	}
	d.spoiling.Unlock()
	err := d.onDomain(ctx, "spoil media", id, func(domain *libvirt.Domain) error {
		return standing(domain, func() error { return d.spoil(domain, id) })
	})
	if errors.Is(err, hypervisor.ErrNotFound) || errors.Is(err, hypervisor.ErrNotRunning) {
		return nil // it comes with the machine
	}
	return err
}

// spoiledFor is what cannot be read of a machine's media.
func (d *Driver) spoiledFor(id string) []hypervisor.Sectors {
	d.spoiling.Lock()
	defer d.spoiling.Unlock()
	return d.spoiled[id]
}

// spoil makes the medium in the drive what spoiledFor says.
func (d *Driver) spoil(domain *libvirt.Domain, id string) error {
	if err := heal(domain); err != nil {
		return err
	}
	bad := d.spoiledFor(id)
	if len(bad) == 0 {
		return nil
	}
	node, err := inserted(domain)
	if err != nil || node == "" {
		return err
	}
	var rules []map[string]any
	for _, run := range bad {
		for n := range run.Count {
			rules = append(rules, map[string]any{"event": "read_aio", "errno": int(syscall.EIO), "sector": run.First + n})
		}
	}
	return command(domain,
		qmp.Command{Execute: "blockdev-add", Args: map[string]any{
			"driver": "raw", "node-name": spoiled + node, "read-only": true, "file": map[string]any{
				"driver": "blkdebug", "read-only": true, "image": node, "inject-error": rules,
			},
		}},
		qmp.Command{Execute: "blockdev-remove-medium", Args: map[string]any{"id": floppyDevice}},
		qmp.Command{Execute: "blockdev-insert-medium", Args: map[string]any{"id": floppyDevice, "node-name": spoiled + node}},
	)
}

// heal puts libvirt's own node of the medium back, without which libvirt does not know its way.
func heal(domain *libvirt.Domain) error {
	node, err := inserted(domain)
	below, ours := strings.CutPrefix(node, spoiled)
	if err != nil || !ours {
		return err
	}
	return command(domain,
		qmp.Command{Execute: "blockdev-remove-medium", Args: map[string]any{"id": floppyDevice}},
		qmp.Command{Execute: "blockdev-del", Args: map[string]any{"node-name": node}},
		qmp.Command{Execute: "blockdev-insert-medium", Args: map[string]any{"id": floppyDevice, "node-name": below}},
	)
}

// command gives QEMU commands, until one fails.
func command(domain *libvirt.Domain, commands ...qmp.Command) error {
	for _, c := range commands {
		if _, err := query(domain, c, nil); err != nil {
			return err
		}
	}
	return nil
}

// query gives QEMU a command and reads its answer into value.
func query(domain *libvirt.Domain, c qmp.Command, value any) (answer []byte, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", c.Execute, err)
	}
	said, err := domain.QemuMonitorCommand(string(text), libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	if err == nil {
		err = answerError([]byte(said))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Execute, err)
	}
	if value != nil {
		err = json.Unmarshal([]byte(said), value)
	}
	return []byte(said), err
}

// inserted is the name of the node in the floppy drive; empty when there is none.
func inserted(domain *libvirt.Domain) (string, error) {
	var answer struct {
		Return []struct {
			QDev     string `json:"qdev"`
			Inserted *struct {
				Node string `json:"node-name"`
			} `json:"inserted"`
		} `json:"return"`
	}
	if _, err := query(domain, qmp.Command{Execute: "query-block"}, &answer); err != nil {
		return "", err
	}
	for _, b := range answer.Return {
		if b.QDev == floppyDevice && b.Inserted != nil {
			return b.Inserted.Node, nil
		}
	}
	return "", nil
}

// standing does something about a machine's medium while its guest stands still, so that the guest sees it done: on the
// way a bad medium is in the drive as if it were whole. A guest that stands still already goes on doing so.
func standing(domain *libvirt.Domain, f func() error) error {
	state, _, err := domain.GetState()
	if err != nil {
		return err
	}
	if state != libvirt.DOMAIN_RUNNING {
		return f()
	}
	if err := domain.Suspend(); err != nil {
		return err
	}
	return errors.Join(f(), domain.Resume())
}

// Pause stops the machine's processors.
func (m *machine) Pause(ctx context.Context) error {
	return m.do(ctx, "pause", func(domain *libvirt.Domain) error {
		state, _, err := domain.GetState()
		if err != nil || state == libvirt.DOMAIN_PAUSED {
			return err
		}
		return domain.Suspend()
	})
}

// Resume lets them go on.
func (m *machine) Resume(ctx context.Context) error {
	return m.do(ctx, "resume", func(domain *libvirt.Domain) error {
		state, _, err := domain.GetState()
		if err != nil || state == libvirt.DOMAIN_RUNNING {
			return err
		}
		return domain.Resume()
	})
}

// Interrupt gives all processors a non-maskable interrupt.
func (m *machine) Interrupt(ctx context.Context) error {
	return m.do(ctx, "interrupt", func(domain *libvirt.Domain) error { return domain.InjectNMI(0) })
}

// machineCheck has a processor report that it cannot go on: bank 1, with a status that is valid, uncorrected, enabled,
// and of a context that is corrupt; the check is in progress. No kernel goes on after it (Intel SDM, volume 3, machine-
// check architecture).
const machineCheck = "mce 0 1 0xb200000000000000 0x4 0x0 0x0"

// panicTime is how long a kernel has to say its last and end. It takes less than a second, on a busy host a few.
const panicTime = 8 * time.Second

// Panic has the first processor raise a machine check that no kernel survives, and returns when the machine has ended.
// About one kernel in thirty says a line and hangs. A check while another is in progress is a triple fault, which ends
// the machine whatever its kernel does.
func (m *machine) Panic(ctx context.Context) error {
	if err := m.checkMachine(ctx); err != nil {
		return err
	}
	late := time.After(panicTime)
	poll := time.NewTicker(panicTime / 100)
	defer poll.Stop()
	for {
		state, err := m.State(ctx)
		if err != nil || state != hypervisor.Running { // a paused one dies of it when it goes on
			return err
		}
		select {
		case <-poll.C:
		case <-late:
			err := m.checkMachine(ctx)
			if errors.Is(err, hypervisor.ErrNotRunning) || errors.Is(err, hypervisor.ErrNotFound) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *machine) checkMachine(ctx context.Context) error {
	return m.do(ctx, "panic", func(domain *libvirt.Domain) error {
		said, err := domain.QemuMonitorCommand(machineCheck, libvirt.DOMAIN_QEMU_MONITOR_COMMAND_HMP)
		if err != nil {
			return err
		}
		if said != "" {
			return fmt.Errorf("inject a machine check: QEMU: %s", said)
		}
		return nil
	})
}
