package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/cavaliergopher/cpio"
)

// guestPackage is the guest's program.
const guestPackage = "github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest/guest"

// BuildInitrd compiles the suite's guest with the go tool and writes an initramfs to path: that of an image (not
// compressed), for its modules, with the guest as /init in place of the image's own.
func BuildInitrd(ctx context.Context, imageInitrd, path string) error {
	program := path + ".init"
	defer os.Remove(program)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, guestPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the suite's guest: %w: %s", err, out)
	}
	guest, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read the suite's guest: %w", err)
	}
	image, err := os.Open(imageInitrd)
	if err != nil {
		return fmt.Errorf("read the image's initramfs: %w", err)
	}
	defer image.Close()
	var out bytes.Buffer
	if err := replaceInit(&out, image, guest); err != nil {
		return fmt.Errorf("pack the suite's guest: %w", err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the suite's initramfs: %w", err)
	}
	return nil
}

// replaceInit copies an archive with another program as its init.
func replaceInit(to io.Writer, from io.Reader, program []byte) error {
	const name = "init"
	r, w := cpio.NewReader(from), cpio.NewWriter(to)
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if header.Name == name {
			continue
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
	header := &cpio.Header{Name: name, Mode: cpio.TypeReg | 0o755, Size: int64(len(program)), Links: 1}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	return w.Close()
}
