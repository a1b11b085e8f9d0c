package controller

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/floppy"
)

// ErrNotMemory means that a folder for media is not in memory: a key must not reach a disk.
var ErrNotMemory = errors.New("folder is not memory-backed")

// mediaStore makes and wipes media in one memory-backed folder that nobody else can read.
type mediaStore struct{ dir string }

func openMedia(dir string) (*mediaStore, error) {
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
	return &mediaStore{dir: dir}, nil
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
	path, err = filepath.Abs(f.Name())
	if err == nil {
		err = floppy.Write(f, files)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write medium: %w", err), wipe(f.Name()))
	}
	return path, nil
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
		err = zero(f)
	}
	if err != nil {
		err = fmt.Errorf("wipe medium: %w", err)
	}
	if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("remove medium: %w", gone))
	}
	return err
}

func zero(f *os.File) error {
	info, err := f.Stat()
	if err == nil {
		_, err = io.CopyN(f, zeros{}, info.Size())
	}
	return errors.Join(err, f.Close())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// makeMedium opens an instance's credential with NODEPK and writes its medium. The key is in clear in this
// process only for the length of the call.
func (c *Controller) makeMedium(inst *nodelink.Instance) (path string, err error) {
	services := c.currentServices()
	if services == nil {
		return "", errors.New("make medium: the cloud has not said how it is reached")
	}
	sealed := inst.GetCredential()
	credential := keydelivery.Credential{
		SealedKey: sealed.GetSealedKey(), SealedCert: sealed.GetSealedCert(), IAMCertPEM: sealed.GetIamCertPem(),
		Profile: keydelivery.Profile(sealed.GetProfile()),
	}
	identity, err := credential.Open(c.cfg.Key, c.cfg.NodeID, inst.GetId())
	if err != nil {
		return "", fmt.Errorf("make medium: %w", err)
	}
	defer identity.Key.Wipe()
	entropy := make([]byte, keydelivery.EntropySize)
	defer clear(entropy)
	if _, err := io.ReadFull(c.cfg.Entropy, entropy); err != nil {
		return "", fmt.Errorf("make medium: read entropy: %w", err)
	}
	medium := keydelivery.Medium{
		LBCertPEM: identity.CertPEM, IAMCertPEM: credential.IAMCertPEM, CloudCertPEM: services.GetCloudCertPem(),
		LBKey: identity.Key,
		Boot: keydelivery.Boot{
			FormatVersion: keydelivery.BootFormat, InstanceID: inst.GetId(),
			// The paths are those that the original guest uses; the cloud answers at them and at the root.
			Endpoints: map[string]string{
				"iam": services.GetApiUrl() + "/services/Euare/", "elb": services.GetApiUrl() + "/services/LoadBalancing/",
			},
			CAPEM: string(services.GetCaPem()), Entropy: entropy, Region: services.GetRegion(),
		},
	}
	files, err := medium.Files()
	if err != nil {
		return "", fmt.Errorf("make medium: %w", err)
	}
	defer func() {
		for _, data := range files {
			clear(data)
		}
	}()
	return c.media.write(inst.GetId(), files)
}
