package leakscan

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
)

// Suite collects the keys that a suite's twin makes and looks for them when the suite is over. The zero value is
// ready; its methods may be called from any goroutine.
//
// A harness calls Add for every key that it uploads, Watch before it starts a node, and AfterSuite while cloud and
// node still run.
type Suite struct {
	mu    sync.Mutex
	keys  []Key
	media []*Media
	errs  []error
}

// Twin says where a suite's twin is.
type Twin struct {
	// CloudDir is the folder with etcd and the root key, NodeDir the node's with NODEPK.
	CloudDir, NodeDir string
	// Trees are looked at: the twin's folder, the folder of media, artifacts.
	Trees []string
	// Media is the folder of media.
	Media string
	// Cloud and Node are process ids; 0 means that there is none.
	Cloud, Node int
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

// AfterSuite looks for all keys in the twin's files and in the memory of cloud and node. The error names every leak, or
// says what could not be looked at. Watches end.
func (s *Suite) AfterSuite(ctx context.Context, t Twin) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := s.errs
	run := Run{Keys: s.keys, Media: t.Media}
	for _, media := range s.media {
		errs = append(errs, media.Close())
		keys, err := media.Keys()
		errs = append(errs, err)
		for _, key := range keys {
			run.Keys = append(run.Keys, key)
		}
	}
	s.media = nil
	more, err := StateKeys(ctx, t.CloudDir, t.NodeDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	known := map[string]bool{}
	for _, key := range run.Keys {
		known[key.Name] = true
	}
	for _, key := range more {
		if !known[key.Name] {
			run.Keys = append(run.Keys, key)
		}
	}
	for _, tree := range t.Trees {
		if _, err := os.Lstat(tree); err == nil {
			run.Trees = append(run.Trees, tree)
		}
	}
	if t.Cloud != 0 {
		run.Processes = append(run.Processes, Process{Role: Cloud, Name: "cloud", PID: t.Cloud})
	}
	if t.Node != 0 {
		run.Processes = append(run.Processes, Process{Role: Node, Name: "node", PID: t.Node})
	}
	report, err := run.Check(ctx)
	return report, errors.Join(errors.Join(errs...), err, report.Err())
}
