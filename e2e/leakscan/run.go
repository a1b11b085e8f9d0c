package leakscan

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	// Host is a node whose guests are simulated in its own process.
	Host
)

// Process is a process whose memory is looked at.
type Process struct {
	Role Role
	// Also are what else it is: a cloud may have its node within it.
	Also []Role
	Name string
	PID  int
	// Own are the names of a node's own NODEPKs, of which it must hold one; nil means all that there are.
	Own []string
	// Holds are the names of the keys that a guest must have in its memory: its LBPK and the USERPKs that it serves.
	Holds []string
	// May are the names of the keys that a guest may have there.
	May []string
	// Given returns further such names; nil means none. It is asked when the memory has been read, since a guest may be
	// given more until then.
	Given func() ([]string, error)
	// MayEnd says that it is no error when the process ends before all of it was looked at.
	MayEnd bool
}

// Run is what is looked at after a run: everything that it made and left, while its processes still live.
type Run struct {
	// Keys are those that the run made. Their names begin with the kind: USERPK, LBPK, IAMPK, NODEPK, root key.
	Keys []Key
	// Trees are folders and files: state, logs, artifacts, captures, templates.
	Trees []string
	// MayGo says that it is no error when one of them goes before all of it was looked at.
	MayGo bool
	// Media are folders of media; LBPKs may be there while a guest has not read its medium or, in profile 1, for
	// its life.
	Media     []string
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
		errs = append(errs, r.searchTree(ctx, s, tree, &report))
	}
	same := sameKeys(r.Keys)
	for _, p := range r.Processes {
		found, err := s.Process(ctx, p.Name, p.PID)
		ended := p.MayEnd && !alive(p.PID)
		if !ended {
			errs = append(errs, err)
		}
		if p.Given != nil {
			given, err := p.Given()
			errs, p.May = append(errs, err), append(slices.Clip(p.May), given...)
		}
		there := map[string]bool{}
		for _, f := range found {
			there[f.Key] = true
			switch {
			case slices.ContainsFunc(same[f.Key], p.mayHold):
			case slices.ContainsFunc(same[f.Key], p.residue):
				report.Residues = append(report.Residues, f)
			default:
				report.Leaks = append(report.Leaks, f)
			}
		}
		for _, name := range r.missing(p, there) {
			if !ended {
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

// searchTree looks into a folder or file.
func (r Run) searchTree(ctx context.Context, s *Scanner, tree string, report *Report) error {
	found, err := s.Tree(ctx, tree)
	for _, f := range found {
		if !r.mayBeIn(f.Key, f.Place) {
			report.Leaks = append(report.Leaks, f)
		}
	}
	if r.MayGo && gone(tree) {
		return nil
	}
	return err
}

// gone says whether there is no such file or folder any more.
func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// mayBeIn is the table of the protocol's identities for files.
func (r Run) mayBeIn(key, path string) bool {
	if key == path {
		return true // the file that the key was read from
	}
	switch kind(key) {
	case "root key":
		return filepath.Base(path) == rootKeyFile
	case nodeKey:
		its, err := filepath.Match(nodeKeyFiles, filepath.Base(path))
		return its && err == nil
	case "LBPK":
		return slices.ContainsFunc(r.Media, func(dir string) bool {
			return strings.HasPrefix(path, dir+string(filepath.Separator))
		})
	}
	return false
}

// mayHold is the table for memory. A guest may hold its own keys and no other one's.
func (p Process) mayHold(key string) bool {
	if slices.Contains(p.Holds, key) || slices.Contains(p.May, key) {
		return true
	}
	if kind(key) == nodeKey && p.Own != nil {
		return slices.Contains(p.Own, key)
	}
	return slices.ContainsFunc(p.roles(), func(role Role) bool { return role.mayHold(kind(key)) })
}

// mayHold is the table's row for a kind of process.
func (r Role) mayHold(kind string) bool {
	switch r {
	case Cloud:
		return kind == "IAMPK" || kind == "root key"
	case Node:
		return kind == nodeKey
	case Host:
		return kind == nodeKey || kind == "LBPK" || kind == "USERPK"
	case Guest:
	}
	return false
}

func (p Process) roles() []Role { return append([]Role{p.Role}, p.Also...) }

func (p Process) is(role Role) bool { return slices.Contains(p.roles(), role) }

// alive says whether a process has memory still.
func alive(pid int) bool {
	maps, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/maps")
	return err == nil && len(maps) > 0
}

// residue reports whether a copy of the key may lie in freed memory of a process that had it in clear for a moment and
// could not wipe it all. A cloud takes a USERPK in as the form of an HTTP request: net/http's buffers, the unescaped
// strings of net/url and the parsed key of crypto/x509 cannot be wiped from outside. It makes LBPKs, of which
// crypto/ecdsa and math/big keep copies, as they do in a node, which parses each once to see that it belongs to its
// certificate. A delivery of a USERPK is not among the reasons: TestDeliveryLeavesNoKey shows that it leaves nothing.
//
// How long such a copy stays: until the garbage collector gives its memory to something else, which overwrites it, or
// the process ends. Nothing of the process reads it, no core dump has it, and who can read the memory of a cloud or
// node has IAMPK or NODEPK, which opens more. A guest is given no such leave, nor is any process for a key that it
// never had in clear: a node for a USERPK, a cloud for a NODEPK.
func (p Process) residue(key string) bool {
	return p.is(Cloud) && kind(key) == "USERPK" || p.Role != Guest && kind(key) == "LBPK"
}

// missing are the keys that a process cannot do without and that were not found there: then the scan saw nothing.
func (r Run) missing(p Process, there map[string]bool) (names []string) {
	holds := func(name string) bool { return there[name] }
	if p.Role == Guest {
		for _, name := range p.Holds {
			if !there[name] {
				names = append(names, name)
			}
		}
		return names
	}
	if len(p.Own) > 0 && !slices.ContainsFunc(p.Own, holds) {
		names = append(names, "none of "+strings.Join(p.Own, ", "))
	}
	for _, k := range r.Keys {
		// A simulated guest that ended wiped what it held.
		needed := p.mayHold(k.Name) && (kind(k.Name) == nodeKey && p.Own == nil || p.is(Cloud) && Cloud.mayHold(kind(k.Name)))
		if needed && !there[k.Name] {
			names = append(names, k.Name)
		}
	}
	return names
}

// sameKeys are the names under which each key is known, by each of them: a certificate that is renamed has one for
// each of its ARNs.
func sameKeys(keys []Key) map[string][]string {
	bySum, names := map[[sha256.Size]byte][]string{}, map[string][]string{}
	for _, k := range keys {
		if len(k.forms) > 0 {
			sum := sha256.Sum256(k.forms[0].text)
			bySum[sum] = append(bySum[sum], k.Name)
		}
	}
	for _, same := range bySum {
		for _, name := range same {
			names[name] = append(names[name], same...)
		}
	}
	return names
}

// nodeKey is the kind of a node's keys.
const nodeKey = "NODEPK"

// kind is the first part of a key's name.
func kind(name string) string {
	before, _, _ := strings.Cut(name, " of ")
	return before
}
