package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/floppy"
)

// ErrNotMemory means that a folder for media is not in memory: a key must not reach a disk.
var ErrNotMemory = errors.New("folder is not memory-backed")

// mediaStore makes and wipes media in one memory-backed folder that nobody else can read.
type mediaStore struct {
	dir string

	mu    sync.Mutex
	stuck []stuck
	wake  chan struct{} // there is something stuck
}

func openMedia(dir string) (*mediaStore, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find media folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make media folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at media folder: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(owner.Uid) != os.Getuid() {
		return nil, fmt.Errorf("media folder %s: it is not a folder of this user; remove it or choose another", dir)
	}
	if info.Mode().Perm() != 0o700 {
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder needs its x bit
			return nil, fmt.Errorf("close media folder: %w", err)
		}
	}
	if err := CheckMemoryBacked(dir); err != nil {
		return nil, err
	}
	return &mediaStore{dir: dir, wake: make(chan struct{}, 1)}, nil
}

// CheckMemoryBacked returns ErrNotMemory, wrapped, unless dir lies on a tmpfs or ramfs.
func CheckMemoryBacked(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at file system of %s: %w", dir, err)
	}
	// Type is signed or not and 32 or 64 bits wide, as the architecture has it.
	if kind := uint64(st.Type) & 0xffffffff; kind != unix.TMPFS_MAGIC && kind != unix.RAMFS_MAGIC {
		return fmt.Errorf("%w: %s", ErrNotMemory, dir)
	}
	return nil
}

// write makes an image, mode 0600, and returns its absolute path.
func (m *mediaStore) write(id string, files map[string][]byte) (path string, err error) {
	f, err := os.CreateTemp(m.dir, id+"-*.img")
	if err != nil {
		return "", fmt.Errorf("make medium: %w", err)
	}
	if err = errors.Join(floppy.WriteFile(f, files), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write medium: %w", err), wipe(f.Name()))
	}
	return f.Name(), nil
}

// stuck is an image that could not be wiped yet.
type stuck struct {
	path  string
	wiped func()
}

// wipe overwrites and removes an image, and then calls wiped. When that does not work it is tried again until it does:
// a key must not stay. wiped may be called from another goroutine.
func (m *mediaStore) wipe(path string, wiped func()) error {
	err := wipe(path)
	if err == nil {
		wiped()
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stuck = append(m.stuck, stuck{path: path, wiped: wiped})
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return err
}

// retry wipes what could not be wiped at once, until ctx ends. The next process wipes what is left then.
func (m *mediaStore) retry(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return
		}
		for pause := firstPause; m.retryOnce(log) && ctx.Err() == nil; pause = min(2*pause, longPause) {
			wait(ctx, pause)
		}
	}
}

// retryOnce tries each stuck image once and says whether some are left.
func (m *mediaStore) retryOnce(log *slog.Logger) bool {
	m.mu.Lock()
	todo := m.stuck
	m.stuck = nil
	m.mu.Unlock()
	var left []stuck
	for _, s := range todo {
		if err := wipe(s.path); err != nil {
			log.Error("wipe medium again", "path", s.path, "error", err)
			left = append(left, s)
			continue
		}
		s.wiped()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stuck = append(m.stuck, left...)
	return len(m.stuck) > 0
}

// wipeAll wipes everything in the folder: it holds nothing but media.
func (m *mediaStore) wipeAll() error {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return fmt.Errorf("read media folder: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, wipe(filepath.Join(m.dir, e.Name())))
	}
	return errors.Join(errs...)
}

// WipeMedia wipes everything in a folder that some node left, and removes it. A missing folder is no error.
func WipeMedia(dir string) error {
	err := (&mediaStore{dir: dir}).wipeAll()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// wipe overwrites a file in place, so that whoever still has it open reads zeros, and removes it.
func wipe(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(zero(f), f.Close())
	}
	if err != nil {
		err = fmt.Errorf("wipe medium: %w", err)
	}
	if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("remove medium: %w", gone))
	}
	return err
}

// zero overwrites what a file holds. An image is mostly holes, which are left: there is nothing in them.
func zero(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for at, end := int64(0), int64(0); at < info.Size(); at = end {
		at, err = f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole is left
		}
		if err != nil {
			return err
		}
		if end, err = f.Seek(at, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.CopyN(io.NewOffsetWriter(f, at), zeros{}, end-at); err != nil {
			return err
		}
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// bootMedium stands for the fingerprint of a credential where a medium has none: that of a fork of an image without
// one, which only says who it is.
const bootMedium = "boot"

// mediumSum names what the guest's medium is to hold; empty when it needs none.
func (g *guest) mediumSum(inst *nodelink.Instance) string {
	sum := inst.GetCredential().Fingerprint()
	if sum == "" && g.record.Forked && (g.record.Credential == "" || g.record.Credential == bootMedium) {
		return bootMedium
	}
	return sum
}

// makeMedium writes the medium of an instance. A fork's says who it is.
func (c *Controller) makeMedium(inst *nodelink.Instance, forked bool) (path string, err error) {
	entropy := make([]byte, keydelivery.EntropySize)
	defer clear(entropy)
	if _, err := io.ReadFull(c.cfg.Entropy, entropy); err != nil {
		return "", fmt.Errorf("make medium: read entropy: %w", err)
	}
	boot := keydelivery.Boot{
		FormatVersion: keydelivery.BootFormat, InstanceID: inst.GetId(), Entropy: entropy,
		Time:       c.cfg.Trouble.BootTime(inst.GetId()).UTC(),
		Credential: inst.GetCredential().Fingerprint(), Traceparent: inst.GetTraceparent(),
	}
	if forked {
		boot.MAC = inst.GetMac()
	}
	var files map[string][]byte
	if inst.GetCredential() == nil {
		files, err = boot.Files()
	} else {
		files, err = c.credentialFiles(inst, boot)
	}
	if err != nil {
		return "", fmt.Errorf("make medium: %w", err)
	}
	defer func() {
		for _, data := range files {
			clear(data)
		}
	}()
	if c.cfg.Trouble.WithoutEntropy(inst.GetId()) {
		dropEntropy(files, entropy)
	}
	return c.media.write(inst.GetId(), files)
}

// credentialFiles opens an instance's credential and makes the files of its medium. The key is in clear in this process
// only until the caller has wiped them.
func (c *Controller) credentialFiles(inst *nodelink.Instance, boot keydelivery.Boot) (map[string][]byte, error) {
	services := c.currentServices()
	if services == nil {
		return nil, errors.New("the cloud has not said how it is reached")
	}
	identity, _, err := c.openCredential(inst)
	if err != nil {
		return nil, err
	}
	defer identity.Key.Wipe()
	// The paths are those that the original guest uses; the cloud answers at them and at the root.
	boot.Endpoints = map[string]string{
		"iam": services.GetApiUrl() + "/services/Euare/", "elb": services.GetApiUrl() + "/services/LoadBalancing/",
	}
	boot.CAPEM, boot.Region = string(services.GetCaPem()), services.GetRegion()
	medium := keydelivery.Medium{
		LBCertPEM: identity.CertPEM, IAMCertPEM: inst.GetCredential().GetIamCertPem(),
		CloudCertPEM: services.GetCloudCertPem(), LBKey: identity.Key, Boot: boot,
	}
	return medium.Files()
}
