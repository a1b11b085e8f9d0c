package accel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxVerdict bounds what is read back from a cache file, in bytes.
const maxVerdict = 4 << 10

// Cached asks Prover once per boot of the host and per QEMU binary, and keeps the verdict in Dir.
type Cached struct {
	Prover Prover
	// Dir is the folder of the verdict, made when it is missing. It may be shared by processes.
	Dir string
	// Emulator is QEMU's binary: a path or a name on the path. Another binary is proved anew.
	Emulator string
	// Device is KVM's device file; default "/dev/kvm". A user who is let in, or shut out, is answered anew.
	Device string
	// BootID is the file that names the host's boot; default /proc/sys/kernel/random/boot_id.
	BootID string
}

type record struct {
	Key     string  `json:"key"`
	Verdict Verdict `json:"verdict"`
}

// Prove returns the kept verdict, or asks and keeps the answer. A cache that cannot be read or written costs another
// proof, and is no error.
func (c Cached) Prove(ctx context.Context) (Verdict, error) {
	key, err := c.key()
	if err != nil {
		return Verdict{}, err
	}
	path := filepath.Join(c.Dir, "accelerator.json")
	if r, err := readRecord(path); err == nil && r.Key == key {
		return r.Verdict, nil
	}
	v, err := c.Prover.Prove(ctx)
	if err != nil {
		return Verdict{}, err
	}
	_ = writeRecord(path, record{Key: key, Verdict: v}) // a full disk must not keep the node from starting
	return v, nil
}

// key changes with the host's boot, the QEMU binary, and whether this user may use KVM's device.
func (c Cached) key() (string, error) {
	boot := c.BootID
	if boot == "" {
		boot = "/proc/sys/kernel/random/boot_id"
	}
	id, err := os.ReadFile(boot)
	if err != nil {
		return "", fmt.Errorf("read the host's boot id: %w", err)
	}
	path, err := exec.LookPath(c.Emulator)
	if err != nil {
		return "", fmt.Errorf("find the emulator: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look at the emulator: %w", err)
	}
	device := c.Device
	if device == "" {
		device = "/dev/kvm"
	}
	return fmt.Sprintf("%s %s %d %d kvm=%t", strings.TrimSpace(string(id)), path, info.Size(),
		info.ModTime().UnixNano(), openable(device) == nil), nil
}

func readRecord(path string) (record, error) {
	f, err := os.Open(path)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	var r record
	if err := json.NewDecoder(io.LimitReader(f, maxVerdict)).Decode(&r); err != nil {
		return record{}, err
	}
	if r.Verdict.Accelerator != KVM && r.Verdict.Accelerator != TCG {
		return record{}, fmt.Errorf("accelerator %q: %w", r.Verdict.Accelerator, errors.ErrUnsupported)
	}
	return r, nil
}

func writeRecord(path string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replace(path, data)
}

// replace replaces a file at once, so that another process reads the old or the new one, never a half. It makes the
// folder.
func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
