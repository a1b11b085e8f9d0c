package leakscan

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Role is whose memory a process's is.
type Role int

// The processes of a twin.
const (
	Cloud Role = iota
	Node
	Guest
)

// Process is a process whose memory is looked at.
type Process struct {
	Role Role
	Name string
	PID  int
	// Holds are the names of the keys that a guest must have in its memory: its LBPK and the USERPKs that it serves.
	Holds []string
}

// Run is what is looked at after a run: everything that it made and left, while its processes still live.
type Run struct {
	// Keys are those that the run made. Their names begin with the kind: USERPK, LBPK, IAMPK, NODEPK, root key.
	Keys []Key
	// Trees are folders and files: state, logs, artifacts, captures, templates.
	Trees []string
	// Media is the folder of media; LBPKs may be there while a guest has not read its medium or, in profile 1, for
	// its life.
	Media     string
	Processes []Process
}

// Report is what a Run found.
type Report struct {
	// Leaks are keys where they must not be.
	Leaks []Finding
	// Residues are copies that a process could not help to make and that nothing reads again: see Process.residue.
	Residues []Finding
	// Missing are keys that are not where they must be; then the scan has not seen what it should.
	Missing []string
	Bytes   int64
	Took    time.Duration
}

// String is a line on what was looked at.
func (r Report) String() string {
	return fmt.Sprintf("%d MB in %s: %d leaks, %d residues, %d missing", r.Bytes>>20, r.Took.Round(time.Millisecond),
		len(r.Leaks), len(r.Residues), len(r.Missing))
}

// Err returns everything that is wrong, a line each, or nil.
func (r Report) Err() error {
	var errs []error
	for _, leak := range r.Leaks {
		errs = append(errs, errors.New("leak: "+leak.String()))
	}
	for _, missing := range r.Missing {
		errs = append(errs, errors.New("not where it must be: "+missing))
	}
	return errors.Join(errs...)
}

// Check looks everywhere. The error means that something could not be looked at.
func (r Run) Check(ctx context.Context) (Report, error) {
	begun := time.Now()
	s := NewScanner(r.Keys)
	var report Report
	var errs []error
	for _, tree := range r.Trees {
		found, err := s.Tree(ctx, tree)
		errs = append(errs, err)
		for _, f := range found {
			if !r.mayBeIn(f.Key, f.Place) {
				report.Leaks = append(report.Leaks, f)
			}
		}
	}
	for _, p := range r.Processes {
		found, err := s.Process(ctx, p.Name, p.PID)
		errs = append(errs, err)
		there := map[string]bool{}
		for _, f := range found {
			there[f.Key] = true
			switch {
			case p.mayHold(f.Key):
			case p.residue(f.Key):
				report.Residues = append(report.Residues, f)
			default:
				report.Leaks = append(report.Leaks, f)
			}
		}
		for _, name := range r.mustHold(p) {
			if !there[name] {
				report.Missing = append(report.Missing, name+" in the memory of "+p.Name)
			}
		}
	}
	report.Bytes, report.Took = s.Bytes, time.Since(begun)
	if err := errors.Join(errs...); err != nil {
		return report, fmt.Errorf("look for keys: %w", err)
	}
	return report, nil
}

// mayBeIn is the table of the protocol's identities for files.
func (r Run) mayBeIn(key, path string) bool {
	if key == path {
		return true // the file that the key was read from
	}
	switch kind(key) {
	case "root key":
		return filepath.Base(path) == rootKeyFile
	case "NODEPK":
		return filepath.Base(path) == nodeKeyFile
	case "LBPK":
		return r.Media != "" && strings.HasPrefix(path, r.Media+string(filepath.Separator))
	}
	return false
}

// mayHold is the table for memory. A guest may hold its own keys and no other one's.
func (p Process) mayHold(key string) bool {
	switch p.Role {
	case Cloud:
		return kind(key) == "IAMPK" || kind(key) == "root key"
	case Node:
		return kind(key) == "NODEPK"
	case Guest:
		for _, own := range p.Holds {
			if own == key {
				return true
			}
		}
	}
	return false
}

// residue reports whether a copy of the key may lie in freed memory of a process that had it in clear for a moment and
// could not wipe it all. A cloud takes a USERPK in as the form of an HTTP request: net/http's buffers, the unescaped
// strings of net/url and the parsed key of crypto/x509 cannot be wiped from outside. It makes LBPKs, of which
// crypto/ecdsa and math/big keep copies, as they do in a node, which parses each once to see that it belongs to its
// certificate. A delivery of a USERPK is not among the reasons: TestDeliveryLeavesNoKey shows that it leaves nothing.
func (p Process) residue(key string) bool {
	return p.Role == Cloud && kind(key) == "USERPK" || p.Role != Guest && kind(key) == "LBPK"
}

// mustHold are the keys that a process cannot do without. When they are not found, the scan saw nothing.
func (r Run) mustHold(p Process) []string {
	if p.Role == Guest {
		return p.Holds
	}
	var names []string
	for _, k := range r.Keys {
		if p.mayHold(k.Name) {
			names = append(names, k.Name)
		}
	}
	return names
}

// kind is the first part of a key's name.
func kind(name string) string {
	before, _, _ := strings.Cut(name, " of ")
	return before
}
