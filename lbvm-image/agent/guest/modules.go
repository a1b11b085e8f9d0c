package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// networkModule is the one after which a network card can be there.
const networkModule = "virtio_net"

// loader loads the image's modules in the order of its list.
type loader struct {
	paths   []string
	network chan struct{} // closed when a network card can be there
	done    chan struct{} // closed when all are loaded
	failed  map[string]error
	load    func(path string) error
}

// newLoader reads the lists of modules. Further ones may be missing: a guest can do without their devices.
func newLoader(list string, further ...string) (*loader, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, fmt.Errorf("read list of modules: %w", err)
	}
	paths := strings.Fields(string(text))
	for _, f := range further {
		text, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read list of modules: %w", err)
		}
		paths = append(paths, strings.Fields(string(text))...)
	}
	return &loader{
		paths:   paths,
		network: make(chan struct{}),
		done:    make(chan struct{}),
		failed:  map[string]error{},
		load:    loadModule,
	}, nil
}

// run loads everything. A module that fails does not stop those after it; who needs it finds out.
func (l *loader) run() {
	defer close(l.done)
	networkDone := false
	for _, p := range l.paths {
		name := strings.TrimSuffix(path.Base(p), ".ko")
		if err := l.load(p); err != nil {
			l.failed[name] = err
		}
		if name == networkModule {
			networkDone = true
			close(l.network)
		}
	}
	if !networkDone { // built into the kernel
		close(l.network)
	}
}

// wait returns the modules that could not be loaded, with the reasons.
func (l *loader) wait() map[string]error {
	<-l.done
	return l.failed
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module: %w", err)
	}
	return nil
}
