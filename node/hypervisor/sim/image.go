package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The flavours of guests that every driver knows.
const (
	LBVM = "lbvm"
	Web  = "web"
)

// An image of simulated guests is a folder like a real one's. Its kernel and initramfs are a line of text each; the
// latter names the flavour.
const (
	kernelFile   = "vmlinux"
	initrdFile   = "initramfs.img"
	manifestFile = "manifest.json"

	kernelText   = "cloudtwin simulated kernel\n"
	initrdPrefix = "cloudtwin simulated guest: "
	maxInitrd    = 128 // bytes that are read of an initramfs
)

var flavourPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// InitrdText is what the initramfs of a flavour's image holds.
func InitrdText(flavour string) string { return initrdPrefix + flavour + "\n" }

// manifest is what a node reads of an image's manifest, and what it is called by.
type manifest struct {
	FormatVersion int      `json:"formatVersion"`
	Name          string   `json:"name"`
	KernelRelease string   `json:"kernelRelease"`
	Cmdline       string   `json:"cmdline"`
	Outputs       []output `json:"outputs"`
}

type output struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// WriteImages writes the images "lbvm" and "web" into dir, in place of what is there under these names. Their bytes are
// always the same.
func WriteImages(dir string) error {
	for _, flavour := range []string{LBVM, Web} {
		if err := writeImage(filepath.Join(dir, flavour), flavour); err != nil {
			return fmt.Errorf("write image of simulated guest %s: %w", flavour, err)
		}
	}
	return nil
}

func writeImage(dir, flavour string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	m := manifest{FormatVersion: 1, Name: flavour, KernelRelease: "simulated"}
	for _, f := range []struct{ name, text string }{{initrdFile, InitrdText(flavour)}, {kernelFile, kernelText}} {
		if err := replaceFile(filepath.Join(dir, f.name), []byte(f.text)); err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(f.text))
		m.Outputs = append(m.Outputs, output{Name: f.name, Size: int64(len(f.text)), SHA256: hex.EncodeToString(sum[:])})
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, manifestFile), append(data, '\n'))
}

// replaceFile writes a file in one step, and not at all when it is there with these bytes.
func replaceFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// readFlavour tells which guest an initramfs is.
func readFlavour(path string) (string, error) {
	if err := checkFile("initrd", path); err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open initrd: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxInitrd))
	if err != nil {
		return "", fmt.Errorf("read initrd: %w", err)
	}
	flavour, ok := strings.CutPrefix(strings.TrimSpace(string(text)), initrdPrefix)
	if !ok || !flavourPattern.MatchString(flavour) {
		return "", fmt.Errorf("initrd %s: it is that of no simulated guest; WriteImages makes such", path)
	}
	return flavour, nil
}
