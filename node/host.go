package node

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/node/controller"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// ErrBusy means that another process is the node of this folder.
var ErrBusy = errors.New("another process uses the node's folder")

// lock makes the node's folder and takes it for this process, until the returned function is called or the process
// ends in any way.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make node folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder needs its x bit
		return nil, fmt.Errorf("close node folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock node folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrBusy, dir)
		}
		return nil, fmt.Errorf("lock node folder: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// runDir is the node's memory-backed folder.
type runDir struct{ path, media, sockets string }

const (
	ownerFile = "owner" // holds the path of the node's folder
	runPrefix = "cloudtwin-"
)

// openRunDir finds or makes the folder. Its name follows from the node's folder, so the next process finds what a
// killed one left. Folders of nodes that are gone are wiped on the way.
func openRunDir(cfg Config) (*runDir, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find node folder: %w", err)
	}
	path := cfg.RunDir
	if path == "" {
		base, err := memoryBase()
		if err != nil {
			return nil, err
		}
		mine := runPrefix + strconv.Itoa(os.Getuid()) + "-"
		wipeStale(base, mine)
		sum := sha256.Sum256([]byte(dir))
		path = filepath.Join(base, mine+hex.EncodeToString(sum[:6]))
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make run folder: %w", err)
	}
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	if err := controller.CheckMemoryBacked(path); err != nil {
		return nil, err
	}
	r := &runDir{path: path, media: filepath.Join(path, "media"), sockets: filepath.Join(dir, "net")}
	if len(r.sockets)+len("/i-0123456789abcdef0.sock") > hypervisor.MaxSocketPath {
		r.sockets = filepath.Join(path, "net")
	}
	if err := os.WriteFile(filepath.Join(path, ownerFile), []byte(dir), 0o600); err != nil {
		return nil, fmt.Errorf("mark run folder: %w", err)
	}
	return r, nil
}

// checkPrivate says whether path is a folder, not a link, of this user that nobody else can enter. Its parent may
// be one where everybody can make folders.
func checkPrivate(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at run folder: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("run folder %s: it is not a private folder of this user; remove it or choose another", path)
	}
	return nil
}

// memoryBase returns a memory-backed folder in which this user may make others.
func memoryBase() (string, error) {
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		if base != "" && controller.CheckMemoryBacked(base) == nil && unix.Access(base, unix.W_OK) == nil {
			return base, nil
		}
	}
	return "", fmt.Errorf("%w: neither XDG_RUNTIME_DIR nor /dev/shm is; give the node a run folder on a tmpfs",
		controller.ErrNotMemory)
}

// wipeStale removes the run folders of nodes whose own folder is gone: they were killed and then deleted.
func wipeStale(base, prefix string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(base, e.Name())
		if !strings.HasPrefix(e.Name(), prefix) || checkPrivate(path) != nil {
			continue
		}
		owner, err := os.ReadFile(filepath.Join(path, ownerFile))
		if err != nil || len(owner) == 0 {
			continue
		}
		//nolint:gosec // the path is only looked at, and this user wrote it
		if _, err := os.Stat(string(owner)); errors.Is(err, fs.ErrNotExist) {
			_ = controller.WipeMedia(filepath.Join(path, "media"))
			_ = os.RemoveAll(path)
		}
	}
}

// close removes the folder when nothing is left in it that running guests need.
func (r *runDir) close() {
	_ = os.Remove(r.media)
	_ = os.Remove(filepath.Join(r.path, "net"))
	if entries, err := os.ReadDir(r.path); err == nil && len(entries) == 1 && entries[0].Name() == ownerFile {
		_ = os.Remove(filepath.Join(r.path, ownerFile))
		_ = os.Remove(r.path)
	}
}

// hostMemoryMB returns the host's memory and what of it is available, from /proc/meminfo (proc(5)); zeros when that
// cannot be read.
func hostMemoryMB() (total, free uint64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kb, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total = kb / 1024
		case "MemAvailable:":
			free = kb / 1024
		}
	}
	return total, free
}
