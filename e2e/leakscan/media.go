package leakscan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	keys map[string]Key // by instance
	errs []error
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
	image, err := os.ReadFile(path)
	if err != nil {
		return
	}
	defer clear(image)
	disk, err := floppy.Read(bytes.NewReader(image))
	if err != nil {
		return
	}
	medium, err := keydelivery.ReadMedium(disk)
	if err != nil {
		return
	}
	defer medium.LBKey.Wipe()
	key, err := NewKey("LBPK of "+medium.Boot.InstanceID, medium.LBKey)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.errs = append(m.errs, err)
		return
	}
	m.keys[medium.Boot.InstanceID] = key
}

// Keys returns the LBPKs seen so far by instance.
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
