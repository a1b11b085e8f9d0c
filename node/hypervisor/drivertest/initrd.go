package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cavaliergopher/cpio"
)

// guestPackage is the guest's program.
const guestPackage = "github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest/guest"

// BuildInitrd compiles the suite's guest with the go tool and writes an initramfs to path: that of an image, for its
// modules, and behind it a second archive whose /init is the guest. The kernel unpacks one after the other, so the
// later /init wins (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
func BuildInitrd(ctx context.Context, imageInitrd, path string) error {
	program := path + ".init"
	defer os.Remove(program) //nolint:errcheck // a file between two steps
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, guestPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the suite's guest: %w: %s", err, out)
	}
	guest, err := os.ReadFile(program) //nolint:gosec // written just now
	if err != nil {
		return fmt.Errorf("read the suite's guest: %w", err)
	}
	initrd, err := os.ReadFile(imageInitrd) //nolint:gosec // the caller's image
	if err != nil {
		return fmt.Errorf("read the image's initramfs: %w", err)
	}
	overlay, err := packInit(guest)
	if err != nil {
		return err
	}
	const alignment = 4 // of archives in an initramfs
	if odd := len(initrd) % alignment; odd != 0 {
		initrd = append(initrd, make([]byte, alignment-odd)...)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the suite's initramfs: %w", err)
	}
	if err := os.WriteFile(path, append(initrd, overlay...), 0o600); err != nil {
		return fmt.Errorf("write the suite's initramfs: %w", err)
	}
	return nil
}

func packInit(program []byte) ([]byte, error) {
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	header := &cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(program)), Links: 1}
	if err := w.WriteHeader(header); err != nil {
		return nil, fmt.Errorf("pack the suite's guest: %w", err)
	}
	if _, err := w.Write(program); err != nil {
		return nil, fmt.Errorf("pack the suite's guest: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack the suite's guest: %w", err)
	}
	return out.Bytes(), nil
}
