package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/digitalocean/go-qemu/qmp"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var _ qmp.Monitor = (*monitor)(nil)

// Monitored is the ability of this driver's machines to be talked to in QEMU's own protocol.
type Monitored interface {
	// Monitor returns a QMP monitor whose commands end with ctx. It needs no Connect, and has no events: the
	// driver's are the driver's.
	Monitor(ctx context.Context) qmp.Monitor
}

// monitor is go-qemu's monitor over libvirt's passthrough, so that it works the same with a daemon and without.
type monitor struct {
	ctx     context.Context // qmp.Monitor's methods take none
	machine *machine
}

func (m *machine) Monitor(ctx context.Context) qmp.Monitor { return &monitor{ctx: ctx, machine: m} }

// Connect does nothing: libvirt holds the connection.
func (m *monitor) Connect() error { return nil }

// Disconnect does nothing.
func (m *monitor) Disconnect() error { return nil }

// Run sends one command and returns QEMU's whole answer, or its error.
func (m *monitor) Run(command []byte) (out []byte, err error) {
	err = m.machine.do(m.ctx, "monitor command", func(domain *libvirt.Domain) error {
		text, err := domain.QemuMonitorCommand(string(command), libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
		if err != nil {
			return err
		}
		out = []byte(text)
		return answerError(out)
	})
	return out, err
}

// Events is not supported: libvirt consumes QEMU's events.
func (m *monitor) Events(context.Context) (<-chan qmp.Event, error) {
	return nil, qmp.ErrEventsNotSupported
}

// answerError returns the error that a QMP answer carries (QEMU, docs/interop/qmp-spec).
func answerError(answer []byte) error {
	var a struct {
		Error *struct {
			Class string `json:"class"`
			Desc  string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("read QEMU's answer: %w", err)
	}
	if a.Error != nil {
		return fmt.Errorf("QEMU: %s (%s)", a.Error.Desc, a.Error.Class)
	}
	return nil
}

// maxScreenshot bounds a PNG of the small display, in bytes.
const maxScreenshot = 16 << 20

// Screenshot asks QEMU for a PNG of the display.
func (m displayMachine) Screenshot(ctx context.Context) (png []byte, err error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("screenshot of machine %s: %w", m.notes.ID, err)
	}
	// QEMU writes the file itself. It goes where only this user can look, and where a daemon's QEMU writes anyway.
	base := m.driver.cfg.Root
	if !m.driver.cfg.embedded() {
		base = filepath.Dir(m.notes.Console)
	}
	dir, err := os.MkdirTemp(base, "screenshot-")
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "display.png")
	command, err := json.Marshal(qmp.Command{
		Execute: "screendump", Args: map[string]string{"filename": path, "format": "png"},
	})
	if err != nil {
		return fail(err)
	}
	if state, err := m.State(ctx); err != nil || over(state) {
		return fail(errors.Join(err, hypervisor.ErrNotRunning))
	}
	if _, err := m.Monitor(ctx).Run(command); err != nil {
		return fail(err)
	}
	file, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	png, err = io.ReadAll(io.LimitReader(file, maxScreenshot))
	if err != nil {
		return fail(err)
	}
	return png, nil
}
