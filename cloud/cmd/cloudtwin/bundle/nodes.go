package bundle

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

// host is a node's state folder on this machine.
type host struct {
	layout local.Layout
	logs   string // the folder of the bundle that its logs go to
	// of are the guests whose consoles lie there, of a folder that only a node's word led to: nothing else is taken from
	// it. nil means that somebody named the folder.
	of map[string]bool
}

// ErrNoNode means that a folder is no state folder of a node.
var ErrNoNode = errors.New("no state folder of a node")

// hosts are the nodes on this machine: that in the state folder, those that were named, and those that consoles lie
// in, each once.
func (s *stage) hosts(consoles map[string]string) ([]host, error) {
	list := []host{{layout: s.src.State, logs: filepath.Join(logsFolder, "libvirt")}}
	for _, layout := range s.src.Nodes {
		if !isState(layout) {
			return nil, fmt.Errorf("%w: %s; name the folder that 'cloudtwin node' was given as --state", ErrNoNode, layout)
		}
		list = append(list, host{layout: layout})
	}
	told := map[local.Layout]map[string]bool{}
	for id, path := range consoles {
		layout, ok := stateOf(id, path)
		if !ok || slices.ContainsFunc(list, func(h host) bool { return h.layout == layout }) {
			continue
		}
		if told[layout] == nil {
			told[layout] = map[string]bool{}
		}
		told[layout][id] = true
	}
	for layout, of := range told {
		if isState(layout) {
			list = append(list, host{layout: layout, of: of})
		}
	}
	slices.SortStableFunc(list[1:], func(a, b host) int { return strings.Compare(string(a.layout), string(b.layout)) })
	names := map[string]bool{"libvirt": true}
	for i := range list[1:] {
		name := freeName(names, hostName(list[1+i].layout), "")
		list[1+i].logs = filepath.Join(logsFolder, name)
	}
	return list, nil
}

// stateOf is the state folder of the node that keeps a guest's console at path: STATE/node/machines/ID/console.log, or
// STATE/node/ended/ID.console.log.
func stateOf(id, path string) (local.Layout, bool) {
	if !filepath.IsAbs(path) || !isConsole(id, path) {
		return "", false
	}
	folder := filepath.Dir(filepath.Dir(path))
	if filepath.Base(path) == consoleFile {
		folder = filepath.Dir(folder)
	}
	layout := local.Layout(filepath.Dir(folder))
	return layout, layout.Node() == folder
}

// isState says whether a folder is a state folder of this user's.
func isState(l local.Layout) bool {
	for path, folder := range map[string]bool{string(l): true, l.Mark(): false} {
		info, err := os.Lstat(path)
		if err != nil || info.IsDir() != folder || !folder && !info.Mode().IsRegular() {
			return false
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Getuid() {
			return false
		}
	}
	return true
}

// unfit are the characters that no name of a folder in a bundle has.
var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// hostName is the node's own name, or that of its folder when it has no certificate.
func hostName(l local.Layout) string {
	name := filepath.Base(string(l))
	if text, err := os.ReadFile(filepath.Join(l.Node(), "node.crt")); err == nil {
		if block, _ := pem.Decode(text); block != nil {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil && cert.Subject.CommonName != "" {
				name = cert.Subject.CommonName
			}
		}
	}
	return strings.TrimLeft(unfit.ReplaceAllString(name, "-"), ".")
}

// freeName is name+suffix, with a number between them when that is taken, and takes it.
func freeName(taken map[string]bool, name, suffix string) string {
	free := name + suffix
	for n := 2; free == "" || taken[free]; n++ {
		free = name + "-" + strconv.Itoa(n) + suffix
	}
	taken[free] = true
	return free
}

// libvirt copies the domains' XML and QEMU's and libvirt's logs.
func (s *stage) libvirt() error {
	var errs []error
	for _, h := range s.onHost {
		for _, pattern := range []string{"run/qemu/*.xml", "log/qemu/*.log", "log/libvirt.log"} {
			paths, err := filepath.Glob(filepath.Join(h.layout.LibvirtRoot(), filepath.FromSlash(pattern)))
			errs = append(errs, err)
			for _, path := range paths {
				if wanted, err := s.namesGuest(h, path); err != nil || !wanted {
					errs = append(errs, err)
					continue
				}
				errs = append(errs, s.tail(path, filepath.Join(h.logs, filepath.Base(path))))
			}
		}
	}
	return errors.Join(errs...)
}

// namesGuest says whether a file of libvirt's is about a guest that is wanted. A copy that was kept ready has a name of
// its own, and its guest's in its text.
func (s *stage) namesGuest(h host, path string) (bool, error) {
	if h.of == nil && (s.src.Selection.All() || filepath.Base(path) == "libvirt.log") {
		return true, nil
	}
	of := h.of
	if of == nil {
		of = s.guests
	}
	var ids [][]byte
	for id := range of {
		if s.wants(id) {
			ids = append(ids, []byte(id))
		}
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // its guest ended meanwhile
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	return mentions(f, ids)
}

// logs copies what the processes of cloud and nodes said.
func (s *stage) logs() error {
	errs := []error{s.tail(s.src.State.Log(), filepath.Join(logsFolder, "up.log"))}
	names := map[string]bool{"up.log": true}
	for _, path := range s.src.Logs {
		ext := filepath.Ext(path)
		name := freeName(names, unfit.ReplaceAllString(strings.TrimSuffix(filepath.Base(path), ext), "-"), ext)
		errs = append(errs, s.tail(path, filepath.Join(logsFolder, name)))
	}
	return errors.Join(errs...)
}

// hostKeys are the NODEPKs of the nodes that have a state folder of their own. Nodes have no other keys.
func (s *stage) hostKeys(ctx context.Context) (keys []leakscan.Key, err error) {
	for _, h := range s.onHost[min(1, len(s.onHost)):] {
		more, err := leakscan.StateKeys(ctx, h.layout.Cloud(), h.layout.Node())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return keys, fmt.Errorf("read the keys of the node in %s: %w", h.layout, err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}
