package libvirt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// A machine's state goes through a unix socket: libvirt's filter of system calls lets QEMU start no program that
// would write a file, and QEMU 7.2 writes none itself.

const (
	stateTime = time.Minute          // for a state of some 150 kB, on a host that is busy or stands still
	firstLoad = 10 * time.Second     // after which another QEMU is given the state
	maxState  = 64 << 20             // bytes
	dialTick  = 1 * time.Millisecond // QEMU answers before its socket is there
	askTick   = 2 * time.Millisecond // between two questions how far QEMU is
)

// ignoreShared keeps the memory out of the state when it is in a file that both sides have.
var ignoreShared = map[string]any{
	"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}},
}

// ask sends one command to QEMU's monitor and decodes the answer into out, which may be nil.
func ask(domain *libvirt.Domain, command string, args, out any) error {
	text, err := json.Marshal(qmp.Command{Execute: command, Args: args})
	if err != nil {
		return fmt.Errorf("write the command %s: %w", command, err)
	}
	answer, err := domain.QemuMonitorCommand(string(text), libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	if err == nil {
		err = answerError([]byte(answer))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, plain(err))
	}
	if out == nil {
		return nil
	}
	wrapped := struct{ Return any }{out}
	if err := json.Unmarshal([]byte(answer), &wrapped); err != nil {
		return fmt.Errorf("read the answer to %s: %w", command, err)
	}
	return nil
}

// saveState has QEMU write the state of a paused machine, without its memory, to the new file at path.
func (d *Driver) saveState(ctx context.Context, domain *libvirt.Domain, path string) error {
	ctx, cancel := context.WithTimeout(ctx, stateTime)
	defer cancel()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the template's state: %w", err)
	}
	defer file.Close()
	socket := d.stateSocket()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listen for the state: %w", err)
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	if err := ask(domain, "migrate-set-capabilities", ignoreShared, nil); err != nil {
		return err
	}
	if err := ask(domain, "migrate", map[string]any{"uri": "unix:" + socket}, nil); err != nil {
		return err
	}
	conn, err := listener.Accept()
	if err != nil {
		return fmt.Errorf("wait for the state: %w", errors.Join(ctx.Err(), err))
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	n, err := io.Copy(file, io.LimitReader(conn, maxState))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the template's state: %w", err)
	}
	if n == maxState {
		return fmt.Errorf("the template's state has more than %d bytes", maxState)
	}
	return d.awaitSaved(ctx, domain)
}

// awaitSaved returns when QEMU says that it has written all.
func (d *Driver) awaitSaved(ctx context.Context, domain *libvirt.Domain) error {
	ticker := time.NewTicker(askTick)
	defer ticker.Stop()
	for {
		var info struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := ask(domain, "query-migrate", nil, &info); err != nil {
			return err
		}
		switch info.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("QEMU did not write the state: %s", info.Error)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the state: %w", ctx.Err())
		}
	}
}

// loadState gives a domain that waits for it the state in the file at path. Whatever QEMU does not take is the
// template's fault: ErrTemplate, with QEMU's own words. One that is not done at ctx's deadline is not:
// context.DeadlineExceeded.
func (d *Driver) loadState(ctx context.Context, domain *libvirt.Domain, name, path string) error {
	state, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %w", hypervisor.ErrTemplate, err)
	}
	if err := ask(domain, "migrate-set-capabilities", ignoreShared, nil); err != nil {
		return err
	}
	socket := d.stateSocket()
	defer removeFile(socket) //nolint:errcheck // QEMU removes it itself unless it is killed
	if err := ask(domain, "migrate-incoming", map[string]any{"uri": "unix:" + socket}, nil); err != nil {
		return err
	}
	conn, err := dialPatiently(ctx, socket)
	if err != nil {
		return err
	}
	if err := pour(ctx, conn, state); err != nil {
		return err
	}
	var status struct {
		Status string `json:"status"`
	}
	err = ask(domain, "query-status", nil, &status)
	if err == nil && status.Status != "paused" {
		err = fmt.Errorf("it is %s", status.Status)
	}
	if err != nil {
		return fmt.Errorf("%w: QEMU did not take the state: %w: %s", hypervisor.ErrTemplate, err, d.lastWords(name))
	}
	return nil
}

// stateHasNIC says whether the machine that a state is of has a network card: QEMU names each device in it.
func stateHasNIC(path string) (bool, error) {
	state, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("%w: %w", hypervisor.ErrTemplate, err)
	}
	return bytes.Contains(state, []byte("/virtio-net")), nil
}

// pour writes the state and waits until QEMU closes the connection, which it does when it has loaded it, or given up.
func pour(ctx context.Context, conn net.Conn, state []byte) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err := conn.Write(state)
	if half, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite() // a state that was cut short ends here
	}
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(conn, maxState))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("load the state: %w", ctx.Err())
	}
	// QEMU may hang up in the middle of a state that it does not like: that is told by what it is then.
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("load the state: %w", err)
	}
	return nil
}

func dialPatiently(ctx context.Context, socket string) (net.Conn, error) {
	ticker := time.NewTicker(dialTick)
	defer ticker.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("connect to QEMU for its state: %w", ctx.Err())
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("connect to QEMU for its state: %w", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to QEMU for its state: %w", ctx.Err())
		}
	}
}

// lastWords is the last line that a domain's QEMU wrote into its log.
func (d *Driver) lastWords(name string) string {
	lines := strings.Split(strings.TrimSpace(consoleTail(d.logFile(name), 0)), "\n")
	for i := len(lines) - 1; i > 0; i-- {
		if !strings.Contains(lines[i], ": shutting down, reason=") { // libvirt's words, not QEMU's
			return lines[i]
		}
	}
	return lines[0]
}

func (d *Driver) stateSocket() string {
	return filepath.Join(d.forkDir(), fmt.Sprintf("s%d", d.serial.Add(1)))
}
