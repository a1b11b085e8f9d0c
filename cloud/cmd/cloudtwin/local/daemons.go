package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
)

// A libvirt daemon keeps its machines when the node's process is killed. The state folder says which daemons its node
// has used, so that who removes the folder finds them.

// daemonTimeout bounds the end of all guests in one daemon.
const daemonTimeout = 60 * time.Second

// DaemonsFile lists the libvirt daemons that have, or had, machines of this folder's node: {"uris": ["URI", ...]}.
func (l Layout) DaemonsFile() string { return filepath.Join(string(l), "daemons.json") }

type daemonList struct {
	URIs []string `json:"uris"`
}

// Daemons are the URIs of the file; none when there is no file.
func (l Layout) Daemons() ([]string, error) {
	text, err := os.ReadFile(l.DaemonsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look which libvirt daemons have guests: %w", err)
	}
	var list daemonList
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("look which libvirt daemons have guests: read %s: %w", l.DaemonsFile(), err)
	}
	return list.URIs, nil
}

// noteDaemon adds a daemon to the file before it gets a machine. undo takes it off again if it was not there before.
func (l Layout) noteDaemon(uri string) (undo func() error, err error) {
	before, err := l.Daemons()
	if err != nil {
		return nil, err
	}
	if slices.Contains(before, uri) {
		return func() error { return nil }, nil
	}
	if err := l.writeDaemons(append(slices.Clone(before), uri)); err != nil {
		return nil, err
	}
	return func() error { return l.writeDaemons(before) }, nil
}

// writeDaemons replaces the file as a whole: half a list would forget guests.
func (l Layout) writeDaemons(uris []string) error {
	text, err := json.Marshal(daemonList{URIs: uris})
	if err != nil {
		return fmt.Errorf("note which libvirt daemons have guests: %w", err)
	}
	half := l.DaemonsFile() + ".new"
	if err = os.WriteFile(half, append(text, '\n'), 0o600); err == nil {
		err = os.Rename(half, l.DaemonsFile())
	}
	if err != nil {
		return fmt.Errorf("note which libvirt daemons have guests: %w", err)
	}
	return nil
}

// machinePrefix begins the names of the machines that this folder's node has in a libvirt daemon: other nodes may share
// it.
func (l Layout) machinePrefix() string { return l.unique() + "-" }

// endDaemonGuests ends and removes what the folder's node left in libvirt daemons.
func endDaemonGuests(ctx context.Context, l Layout) error {
	uris, err := l.Daemons()
	errs := []error{err}
	for _, uri := range uris {
		errs = append(errs, endGuestsOf(ctx, l, uri))
	}
	return errors.Join(errs...)
}

func endGuestsOf(ctx context.Context, l Layout, uri string) error {
	ctx, cancel := context.WithTimeout(ctx, daemonTimeout)
	defer cancel()
	err := libvirt.RemoveAll(ctx, libvirt.Config{URI: uri, CacheDir: Cache(), NamePrefix: l.machinePrefix()})
	if err != nil {
		return fmt.Errorf("%w; start that daemon and try again, or delete %s to leave in it what is there", err,
			l.DaemonsFile())
	}
	return nil
}
