package leakscan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/node/floppy"
)

// Media takes the LBPKs from a node's media while they are written: nothing outside the guest has them later.
type Media struct {
	fd   int
	dir  string
	done sync.WaitGroup

	mu   sync.Mutex
	keys map[string]Key // the latest, by instance
	all  []Key          // those that were replaced, too
	// seeds are what each medium has for its guest's random generator.
	seeds []Key
	errs  []error
}

// WatchMedia begins to look at a node's folder of media, which it makes if it is not there yet. Close ends it.
func WatchMedia(dir string) (*Media, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("watch media: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch media: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF); err != nil {
		return nil, errors.Join(fmt.Errorf("watch media: %w", err), unix.Close(fd))
	}
	m := &Media{fd: fd, dir: dir, keys: map[string]Key{}}
	m.done.Go(m.follow)
	return m, nil
}

// follow reads events until Close, which leaves a file behind that ends it, or until the folder is gone.
func (m *Media) follow() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(m.fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n < unix.SizeofInotifyEvent {
			return
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[at]))
			name := buffer[at+unix.SizeofInotifyEvent : at+unix.SizeofInotifyEvent+int(event.Len)]
			at += unix.SizeofInotifyEvent + int(event.Len)
			file := strings.TrimRight(string(name), "\x00")
			if event.Mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED) != 0 || file == lastFile {
				return
			}
			m.take(filepath.Join(m.dir, file))
		}
	}
}

// lastFile ends follow.
const lastFile = ".leakscan-ends"

// take reads a medium. One that is wiped already, or has no key, is passed over.
func (m *Media) take(path string) {
	if seed, ok := mediumSeed(path); ok {
		m.mu.Lock()
		m.seeds = append(m.seeds, seed)
		m.mu.Unlock()
	}
	instance, key, ok, err := mediumKey(path)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.errs = append(m.errs, err)
		return
	}
	m.keys[instance] = key
	m.all = append(m.all, key)
}

// mediumKey is the LBPK of a medium with its instance; false when it is wiped already or has none.
func mediumKey(path string) (instance string, key Key, ok bool, err error) {
	image, err := os.ReadFile(path)
	if err != nil {
		return "", Key{}, false, nil //nolint:nilerr // it went meanwhile
	}
	defer clear(image)
	disk, err := floppy.Read(bytes.NewReader(image))
	if err != nil {
		return "", Key{}, false, nil //nolint:nilerr // it is wiped, or no medium
	}
	medium, err := keydelivery.ReadMedium(disk)
	if err != nil {
		return "", Key{}, false, nil //nolint:nilerr // a medium without an identity
	}
	defer medium.LBKey.Wipe()
	instance = medium.Boot.InstanceID
	key, err = NewKey("LBPK of "+instance, medium.LBKey)
	return instance, key, true, err
}

// mediumSeed is a medium's entropy; false when it is wiped already or has none. Guests without an identity have some.
func mediumSeed(path string) (Key, bool) {
	image, err := os.ReadFile(path)
	if err != nil {
		return Key{}, false // it went meanwhile
	}
	defer clear(image)
	disk, err := floppy.Read(bytes.NewReader(image))
	if err != nil {
		return Key{}, false
	}
	boot, err := keydelivery.ReadBoot(disk)
	if err != nil || len(boot.Entropy) == 0 {
		return Key{}, false
	}
	return FromSecret("seed of "+boot.InstanceID, boot.Entropy), true
}

// Seeds returns what all media had for their guests' random generators. It is no key, and nothing to guests that have
// mixed it in: whoever finds it in a template knows what its copies begin with.
func (m *Media) Seeds() []Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seeds)
}

// MediaKeys are the LBPKs of the media that lie in a node's folder now: those that guests have not read yet and, in
// delivery profile 1, those of all guests. A folder that is not there has none.
func MediaKeys(dir string) (keys []Key, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at media: %w", err)
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		_, key, ok, err := mediumKey(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		if ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// All returns every LBPK seen so far, those that a renewal replaced among them.
func (m *Media) All() ([]Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all), errors.Join(m.errs...)
}

// Keys returns the latest LBPKs by instance.
func (m *Media) Keys() (map[string]Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]Key{}
	for id, key := range m.keys {
		out[id] = key
	}
	return out, errors.Join(m.errs...)
}

// Close ends the watch. What was seen stays.
func (m *Media) Close() error {
	path := filepath.Join(m.dir, lastFile)
	if err := os.WriteFile(path, nil, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end watch of media: %w", err)
	}
	m.done.Wait()
	_ = os.Remove(path)
	return unix.Close(m.fd)
}
