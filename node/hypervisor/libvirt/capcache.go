package libvirt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// libvirt asks each QEMU binary some hundred questions before its first machine, which takes 2 to 4 s, and keeps the
// answers below its root as one XML file per binary (named by a hash of the binary's path). A file holds what it
// depends on (times of the binary, of its modules and of libvirt, and, where KVM opens, kernel and processor) and
// libvirt checks that itself, so a file may be copied from root to root: a stale one costs nothing but the probing
// that would have been needed anyway.
const (
	capsInRoot  = "cache/qemu/capabilities"
	capsInCache = "libvirt-capabilities"
	maxCapsFile = 4 << 20 // bytes; real ones have 200 kB
)

// seedCapabilities gives a fresh root what earlier roots learned.
func seedCapabilities(cacheDir, root string) error {
	return copyMissing(filepath.Join(cacheDir, capsInCache), filepath.Join(root, capsInRoot), false)
}

// saveCapabilities keeps what this root has learned.
func saveCapabilities(cacheDir, root string) error {
	return copyMissing(filepath.Join(root, capsInRoot), filepath.Join(cacheDir, capsInCache), true)
}

// copyMissing copies the XML files of one folder to another: those that are not there, and with replace also those
// that differ.
func copyMissing(from, to string, replace bool) error {
	files, err := filepath.Glob(filepath.Join(from, "*.xml"))
	if err != nil || len(files) == 0 {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("make the capabilities folder: %w", err)
	}
	var errs []error
	for _, file := range files {
		target := filepath.Join(to, filepath.Base(file))
		data, err := readBounded(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		there, err := readBounded(target)
		if err == nil && (!replace || bytes.Equal(there, data)) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, replaceFile(target, data))
	}
	return errors.Join(errs...)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCapsFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxCapsFile {
		return nil, fmt.Errorf("read %s: more than %d bytes", path, maxCapsFile)
	}
	return data, nil
}

// replaceFile writes beside the file and renames, so that other processes see the old or the new one.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
