package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// A template is a folder, named by its key, with these files.
const (
	memoryFile  = "memory"
	stateFile   = "state"
	noteFile    = "template.json"
	maxNoteSize = 64 << 10 // bytes
)

// format is the version of a template's form: another one is another key.
const format = 1

// unfinishedPrefix begins the names of folders that were not moved to their place, or were moved out of it.
const unfinishedPrefix = ".unfinished-"

// errDamaged means that a template's files are not those that were saved.
var errDamaged = errors.New("template is damaged")

// note is template.json: what the template was made of, and how its files are known again.
type note struct {
	Format  int       `json:"format"`
	Key     string    `json:"key"`
	Flavour string    `json:"flavour"`
	Digest  string    `json:"digest"`
	Ground  string    `json:"ground"`
	Made    time.Time `json:"made"`
	Memory  fileNote  `json:"memory"`
	State   fileNote  `json:"state"`
}

// fileNote is how a file is known again. The checksum, CRC-32C, is against damage: nobody but this user can write here,
// and a cryptographic hash of a guest's memory would take longer than to fork it.
type fileNote struct {
	Size     int64  `json:"size"`
	Checksum uint32 `json:"crc32c"`
}

func files(folder string) hypervisor.Template {
	return hypervisor.Template{Memory: filepath.Join(folder, memoryFile), State: filepath.Join(folder, stateFile)}
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at file system of %s: %w", dir, err)
	}
	return st.Bavail * uint64(max(st.Bsize, 0)), nil
}

// checkPrivate refuses a folder into which another user could put a template.
func checkPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at template folder: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("template folder %s: others may write to it; remove it or choose another", dir)
	}
	return nil
}

// describe writes the note of the files in a folder.
func describe(folder, key string, shape Shape, ground string) error {
	n := note{
		Format: format, Key: key, Flavour: shape.Flavour, Digest: shape.Digest, Ground: ground, Made: time.Now().UTC(),
	}
	var err error
	if n.Memory, err = look(filepath.Join(folder, memoryFile)); err != nil {
		return fmt.Errorf("describe template: %w", err)
	}
	if n.State, err = look(filepath.Join(folder, stateFile)); err != nil {
		return fmt.Errorf("describe template: %w", err)
	}
	if want := int64(shape.MemoryMB) << 20; n.Memory.Size != want || n.State.Size == 0 {
		return fmt.Errorf("%w: memory of %d bytes, want %d, and state of %d", errDamaged, n.Memory.Size, want, n.State.Size)
	}
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return fmt.Errorf("describe template: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, noteFile), data, 0o600); err != nil {
		return fmt.Errorf("describe template: %w", err)
	}
	return nil
}

// check says whether the template in a folder is whole. fs.ErrNotExist when there is none.
func check(folder, key string) error {
	if _, err := os.Stat(folder); err != nil {
		return err
	}
	n, err := readNote(folder)
	if err != nil {
		return err
	}
	if n.Format != format || n.Key != key {
		return fmt.Errorf("%w: its note is of key %s, format %d", errDamaged, n.Key, n.Format)
	}
	for name, want := range map[string]fileNote{memoryFile: n.Memory, stateFile: n.State} {
		path := filepath.Join(folder, name)
		// The size first: it is what a full disk or a killed process changes.
		if info, err := os.Stat(path); err != nil || info.Size() != want.Size {
			return fmt.Errorf("%w: %s is cut short or gone", errDamaged, name)
		}
		got, err := look(path)
		if err != nil {
			return fmt.Errorf("%w: %v", errDamaged, err) //nolint:errorlint // a missing file is damage, not absence
		}
		if got != want {
			return fmt.Errorf("%w: %s is not what was saved", errDamaged, name)
		}
	}
	return nil
}

func readNote(folder string) (note, error) {
	var n note
	f, err := os.Open(filepath.Join(folder, noteFile))
	if err != nil {
		return n, fmt.Errorf("%w: no note", errDamaged)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxNoteSize))
	if err != nil || json.Unmarshal(data, &n) != nil {
		return n, fmt.Errorf("%w: its note cannot be read", errDamaged)
	}
	return n, nil
}

// look measures a file.
func look(path string) (fileNote, error) {
	f, err := os.Open(path)
	if err != nil {
		return fileNote{}, err
	}
	defer func() { _ = f.Close() }()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	size, err := io.CopyBuffer(sum, struct{ io.Reader }{f}, make([]byte, 1<<20))
	if err != nil {
		return fileNote{}, err
	}
	return fileNote{Size: size, Checksum: sum.Sum32()}, nil
}

// install moves a finished template to its place. One that lies there already is moved out of it first: machines that
// were forked from it keep its files until they end.
func (m *Manager) install(work, folder string) error {
	aside := work + "-old"
	err := os.Rename(folder, aside)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put old template aside: %w", err)
	}
	m.letGo(filepath.Base(folder))
	if err := os.Rename(work, folder); err != nil {
		return fmt.Errorf("put template in place: %w", err)
	}
	if err := os.RemoveAll(aside); err != nil {
		m.log.Warn("remove old template", "folder", aside, "error", err)
	}
	return nil
}
