// Package shell is what a simulated guest has in place of a shell and programs: a few commands that testers need, run
// by the agent itself. A real guest has BusyBox and takes none of these but curl and poweroff, so what works in both
// behaves alike: the same words, the same exit status.
//
// A line is one command with its words, which quotes hold together. There are no pipes, files to write, variables or
// processes; what asks for them is told so and exits with 2.
package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/sshd"
)

// Exit statuses, as shells have them.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 127
)

// Machine is the guest that commands are about. All fields are needed but PowerOff.
type Machine struct {
	Hostname string
	Address  string // of its network card
	Began    time.Time
	Now      func() time.Time
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	PowerOff func() // asks the machine to stop; nil means that it cannot
}

// call is one command that runs.
type call struct {
	*Machine
	args           []string // without the command's name
	stdin          io.Reader
	stdout, stderr io.Writer
}

// command runs and returns its exit status.
type command func(ctx context.Context, c *call) int

func commands() map[string]command {
	return map[string]command{
		"cat": cat, "curl": curl, "date": date, "echo": echo, "env": env, "false": fail, "hostname": hostname, "id": id,
		"ip": ip, "ls": ls, "poweroff": poweroff, "sleep": sleep, "true": succeed, "uname": uname, "uptime": uptime,
		"wc": wc, "whoami": whoami,
	}
}

// Run is an sshd.Run for the machine.
func (m *Machine) Run(ctx context.Context, s sshd.Session) int {
	if s.Command != "" {
		status, _ := m.line(ctx, s, s.Command)
		return status
	}
	return m.talk(ctx, s)
}

// Curl runs curl as a program of its own, with the arguments that follow its name.
func (m *Machine) Curl(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return curl(ctx, &call{Machine: m, args: args, stdin: stdin, stdout: stdout, stderr: stderr})
}

// line runs one line and tells whether it was the last of a shell.
func (m *Machine) line(ctx context.Context, s sshd.Session, text string) (status int, last bool) {
	args, err := split(text)
	if err != nil {
		_, _ = fmt.Fprintf(s.Stderr, "sh: %v\n", err)
		return exitUsage, false
	}
	if len(args) == 0 {
		return 0, false
	}
	name, rest := args[0], args[1:]
	switch {
	case name == "exit":
		return exitWith(rest), true
	case name == "sh" && len(rest) == 2 && rest[0] == "-c":
		return m.line(ctx, s, rest[1])
	}
	run, ok := commands()[name]
	if !ok {
		_, _ = fmt.Fprintf(s.Stderr, "sh: %s: not found; a simulated guest has: %s\n", name,
			strings.Join(slices.Sorted(maps.Keys(commands())), " "))
		return exitNotFound, false
	}
	return run(ctx, &call{Machine: m, args: rest, stdin: s.Stdin, stdout: s.Stdout, stderr: s.Stderr}), false
}

func exitWith(args []string) int {
	if len(args) == 0 {
		return 0
	}
	status, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		return exitUsage
	}
	return int(status)
}

// errSyntax is what the shell of a simulated guest has not.
var errSyntax = errors.New("a simulated guest runs one command at a time, without a shell's syntax; " +
	"start the cloud with other guests for more")

// split takes a line apart into words.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case strings.ContainsRune("|&;<>$`()\\*?{}\n", r):
			return nil, fmt.Errorf("%q: %w", r, errSyntax)
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("quote %c is not closed", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// maxLine bounds a line that a client writes, in bytes.
const maxLine = 4 << 10

// talk takes lines from the client until it leaves, as a shell does. A terminal's client sends keys and expects to see
// them.
func (m *Machine) talk(ctx context.Context, s sshd.Session) int {
	if s.Terminal != nil {
		out := newlines{s.Stdout}
		s.Stdin, s.Stdout, s.Stderr = &editor{in: bufio.NewReaderSize(s.Stdin, maxLine), out: s.Stdout}, out, out
	}
	status := 0
	in := bufio.NewScanner(s.Stdin)
	in.Buffer(nil, maxLine)
	for ctx.Err() == nil {
		if s.Terminal != nil {
			_, _ = fmt.Fprint(s.Stdout, m.Hostname+":~# ")
		}
		if !in.Scan() {
			break
		}
		own := s
		own.Stdin = strings.NewReader("") // what follows is the shell's
		var last bool
		if status, last = m.line(ctx, own, in.Text()); last {
			break
		}
	}
	return status
}

// newlines writes each line's end as terminals want it.
type newlines struct{ w io.Writer }

func (n newlines) Write(p []byte) (int, error) {
	if _, err := io.WriteString(n.w, strings.ReplaceAll(string(p), "\n", "\r\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// editor makes lines of a terminal's keys and shows them: backspace, Ctrl-U, Ctrl-C and Ctrl-D do what people expect.
type editor struct {
	in   *bufio.Reader
	out  io.Writer
	line []byte // what is typed
	done []byte // what is to be read
}

// Read implements io.Reader.
func (e *editor) Read(p []byte) (int, error) {
	for len(e.done) == 0 {
		key, err := e.in.ReadByte()
		if err != nil {
			return 0, err
		}
		if !e.press(key) {
			return 0, io.EOF
		}
	}
	n := copy(p, e.done)
	e.done = e.done[n:]
	return n, nil
}

// press takes one key and tells whether there will be more.
func (e *editor) press(key byte) bool {
	const ctrlC, ctrlD, backspace, ctrlU, del = 3, 4, 8, 21, 127
	show := func(text string) { _, _ = io.WriteString(e.out, text) }
	switch {
	case key == '\r' || key == '\n':
		show("\r\n")
		e.done = append(e.line, '\n')
		e.line = nil
	case key == ctrlC:
		show("^C\r\n")
		e.line, e.done = nil, []byte("\n")
	case key == ctrlD && len(e.line) == 0:
		show("\r\n")
		return false
	case (key == backspace || key == del) && len(e.line) > 0:
		show("\b \b")
		e.line = e.line[:len(e.line)-1]
	case key == ctrlU:
		show(strings.Repeat("\b \b", len(e.line)))
		e.line = nil
	case key >= ' ' && key != del && len(e.line) < maxLine-1:
		show(string([]byte{key}))
		e.line = append(e.line, key)
	}
	return true
}
