package leakscan

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// Suite collects the keys that a suite's twin makes and looks for them when the suite is over. The zero value is
// ready; its methods may be called from any goroutine.
//
// A harness calls Add for every key that it uploads, Watch before it starts a node, Look when one of several nodes
// leaves, and AfterSuite while cloud and node still run.
type Suite struct {
	mu    sync.Mutex
	keys  []Key
	media []*Media
	errs  []error
}

// Twin says where a suite's twin is.
type Twin struct {
	// CloudDir is the folder with etcd and the root key.
	CloudDir string
	// Store are the URLs of an external etcd; empty means that the cloud has its own.
	Store []string
	// Trees are looked at: the twin's folder, the folder of media, artifacts.
	Trees []string
	// Cloud is a process id; 0 means that there is none.
	Cloud int
	// Node is the twin's own, Others are the further ones that there are still.
	Node   Site
	Others []Site
}

// Site is a node: where it is, and what runs there.
type Site struct {
	// ID tells it from others; empty for a twin's own node.
	ID string
	// Dir is the folder with NODEPK, Media that of its media.
	Dir, Media string
	// PID is its process; 0 means that there is none, or that it is the scanner's own, which has every key that it looks
	// for.
	PID int
	// Simulated means that its guests live in its own process.
	Simulated bool
	// Guests are the processes of its other guests.
	Guests []Process
}

// Add takes a USERPK in PEM.
func (s *Suite) Add(arn string, text []byte) {
	key, err := NewKey("USERPK of "+arn, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs = append(s.errs, err)
		return
	}
	s.keys = append(s.keys, key)
}

// Watch takes the LBPKs of a node's media.
func (s *Suite) Watch(dir string) {
	media, err := WatchMedia(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs = append(s.errs, err)
		return
	}
	s.media = append(s.media, media)
}

// Look looks for the keys that are known so far, and for the node's own, in what a node has: trees, its media, its
// memory and its guests'. The error is that of AfterSuite. Watches go on; its NODEPKs are looked for from now on.
func (s *Suite) Look(ctx context.Context, site Site, trees ...string) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own, errs := s.ofNode(site)
	seen, err := s.seen()
	run := Run{Keys: slices.Concat(s.keys, seen), Trees: existing(append(trees, site.Media)...),
		Media: []string{site.Media}, MayGo: true} // the node may be about to end
	run.Processes = site.processes(own)
	for i := range run.Processes {
		run.Processes[i].MayEnd = true
	}
	report, fault := run.Check(ctx)
	return report, errors.Join(errs, err, fault, report.Err())
}

// ofNode takes the NODEPKs of a further node, and returns their names.
func (s *Suite) ofNode(site Site) (names []string, err error) {
	if site.ID == "" {
		return nil, nil
	}
	names = []string{}
	keys, err := NodeKeys(site.ID, site.Dir)
	for _, key := range keys {
		names = append(names, key.Name)
	}
	s.keys = append(s.keys, keys...)
	return names, err
}

// seen are the LBPKs of all media so far.
func (s *Suite) seen() (keys []Key, err error) {
	for _, media := range s.media {
		more, fault := media.All()
		keys, err = append(keys, more...), errors.Join(err, fault)
	}
	return keys, err
}

// processes are those of a node. own are the names of its NODEPKs; nil means that no other node has any.
func (n Site) processes(own []string) []Process {
	list := n.Guests
	if n.PID == 0 {
		return list
	}
	process := Process{Role: Node, Name: "node", PID: n.PID, Own: own}
	if n.Simulated {
		process.Role = Host
	}
	if n.ID != "" {
		process.Name += " " + n.ID
	}
	return append(list, process)
}

// AfterSuite looks for all keys in the twin's files and in the memory of cloud, nodes and guests. The error names every
// leak, or says what could not be looked at. Watches end.
func (s *Suite) AfterSuite(ctx context.Context, t Twin) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := slices.Clone(s.errs)
	run := Run{Media: []string{t.Node.Media}, Trees: existing(t.Trees...)}
	if t.Cloud != 0 {
		run.Processes = append(run.Processes, Process{Role: Cloud, Name: "cloud", PID: t.Cloud})
	}
	more, err := StateKeys(ctx, t.CloudDir, t.Node.Dir, t.Store...)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	// The names of the twin's own node's NODEPKs, so that none of another's is taken for one.
	var own []string
	for _, key := range more {
		if kind(key.Name) == nodeKey {
			own = append(own, key.Name)
		}
	}
	run.Processes = append(run.Processes, t.Node.processes(own)...)
	for _, site := range t.Others {
		names, err := s.ofNode(site)
		errs = append(errs, err)
		run.Media = append(run.Media, site.Media)
		run.Processes = append(run.Processes, site.processes(names)...)
	}
	for _, media := range s.media {
		errs = append(errs, media.Close())
	}
	seen, err := s.seen()
	errs = append(errs, err)
	run.Keys = slices.Concat(s.keys, seen)
	s.keys, s.media = run.Keys, nil // what was seen stays known
	known := map[string]bool{}
	for _, key := range run.Keys {
		known[key.Name] = true
	}
	for _, key := range more {
		if !known[key.Name] {
			run.Keys = append(run.Keys, key)
		}
	}
	report, err := run.Check(ctx)
	return report, errors.Join(errors.Join(errs...), err, report.Err())
}

// existing leaves out what is not there.
func existing(paths ...string) (there []string) {
	for _, path := range paths {
		if _, err := os.Lstat(path); path != "" && err == nil {
			there = append(there, path)
		}
	}
	return there
}
