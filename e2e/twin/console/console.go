// Package console finds on a guest's serial console what no healthy guest writes: a kernel that panics, oopses, hangs
// or runs out of memory, and an agent that fails. It reads each console on from where it stopped, so that what it finds
// belongs to the spec during which it was written.
package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
)

// Kind is what a finding is.
type Kind string

// What is looked for.
const (
	Panic       Kind = "kernel panic"
	Oops        Kind = "kernel oops"
	HungTask    Kind = "hung task"
	OutOfMemory Kind = "out of memory"
	AgentFailed Kind = "agent failure"
)

// signs are tried in order; the first that matches names a line. The words are the kernel's own (panic.c, traps.c,
// hung_task.c, watchdog.c, oom_kill.c) and the agent's.
var signs = []struct {
	kind Kind
	sign *regexp.Regexp
}{
	{Panic, regexp.MustCompile(`Kernel panic - not syncing`)},
	{Oops, regexp.MustCompile(`\bOops: |BUG: (unable to handle|kernel NULL pointer)|kernel BUG at |` +
		`general protection fault|double fault:|stack-protector: `)},
	{HungTask, regexp.MustCompile(`INFO: task .* blocked for more than|soft lockup - CPU|hard LOCKUP|` +
		`rcu: INFO: .* (detected|self-detected) stall`)},
	{OutOfMemory, regexp.MustCompile(`Out of memory: Killed process|invoked oom-killer|Memory cgroup out of memory|` +
		`runtime: out of memory|cannot allocate memory`)},
	{AgentFailed, regexp.MustCompile(`@cloudtwin \{"stage":"failed"|^panic: |^fatal error: |` +
		`the agent (crashed|ended|was killed)`)},
}

// Finding is a line that no healthy guest writes.
type Finding struct {
	Kind Kind
	// Guest is the instance, Path its console and Line the line's number there, from 1.
	Guest string
	Path  string
	Line  int
	// Text is the line, cut after 400 bytes.
	Text string
}

// String names guest, line and file.
func (f Finding) String() string {
	return fmt.Sprintf("%s of %s, line %d of %s: %s", f.Kind, f.Guest, f.Line, f.Path, f.Text)
}

const (
	maxText = 400
	// maxLine is where a line is cut that has no end, in bytes.
	maxLine = 64 << 10
	// maxRead bounds what is read of one console at once; more is read the next time.
	maxRead = 32 << 20
	// maxFindings bounds what one console may tell at once: a guest that is broken repeats itself.
	maxFindings = 20
)

// Reader reads consoles on. The zero value begins at their beginnings. It is safe for concurrent use.
type Reader struct {
	mu sync.Mutex
	at map[string]*position
}

type position struct {
	offset int64
	line   int
}

// Scan returns what was written to a guest's console, which is at path now, since the last call, in order, but
// for lines that an allowed pattern matches. A line is read when it is whole. A console that is not there has
// nothing on it.
func (r *Reader) Scan(guest, path string, allowed ...*regexp.Regexp) ([]Finding, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[string]*position{}
	}
	at := r.at[guest] // its console moves when it has ended
	if at == nil {
		at = &position{}
		r.at[guest] = at
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the console of %s: %w", guest, err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(f, at.offset, maxRead))
	if err != nil {
		return nil, fmt.Errorf("read the console of %s: %w", guest, err)
	}
	var found []Finding
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n') + 1
		if end == 0 {
			if len(text) < maxLine {
				break
			}
			end = maxLine
		}
		number := at.line + 1
		if text[end-1] == '\n' {
			at.line = number
		}
		at.offset += int64(end)
		line := strings.TrimRight(string(text[:end]), "\r\n")
		text = text[end:]
		if kind, bad := Judge(line); bad && len(found) < maxFindings && !matches(allowed, line) {
			found = append(found, Finding{Kind: kind, Guest: guest, Path: path, Line: number,
				Text: line[:min(len(line), maxText)]})
		}
	}
	return found, nil
}

// Judge tells what a line says, if it is one that no healthy guest writes.
func Judge(line string) (Kind, bool) {
	for _, s := range signs {
		if s.sign.MatchString(line) {
			return s.kind, true
		}
	}
	return "", false
}

func matches(patterns []*regexp.Regexp, line string) bool {
	for _, p := range patterns {
		if p.MatchString(line) {
			return true
		}
	}
	return false
}
