package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tempPrefix starts the names of folders that are being filled. They lie beside their target, so that a rename
// publishes them; those that a killed build left behind are removed by the next one.
const tempPrefix = ".building-"

// File is one input or output of a build.
type File struct {
	Name   string `json:"name"` // base name, or "module NAME"
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// shortSum is a name for the combination of several texts.
func shortSum(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// fileSum reads the file at path to its end.
func fileSum(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("hash file: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return File{}, fmt.Errorf("hash file %s: %w", path, err)
	}
	return File{Name: filepath.Base(path), Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// copyFile makes the folders that dst needs.
func copyFile(dst, src string, mode os.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(dst), 0o750); err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", src, err)
	}
	return nil
}

// publish puts the folder tmp in the place of target, whether target is there or not. Who looks sees the old or the
// new folder, never a mixture; the old one is removed.
func publish(tmp, target string) error {
	if _, err := os.Lstat(target); errors.Is(err, os.ErrNotExist) {
		return os.Rename(tmp, target)
	}
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, target, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot exchange
		old := tmp + "-old"
		if err := errors.Join(os.Rename(target, old), os.Rename(tmp, target)); err != nil {
			return err
		}
		return os.RemoveAll(old)
	}
	if err != nil {
		return fmt.Errorf("exchange %s and %s: %w", tmp, target, err)
	}
	return os.RemoveAll(tmp)
}

// clearTemps removes what a killed build left in dir. The caller holds the lock.
func clearTemps(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("list leftovers: %w", err)
	}
	var errs []error
	for _, path := range left {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}
