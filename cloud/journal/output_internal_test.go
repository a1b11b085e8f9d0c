package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func openTestOutput(t *testing.T, path string, mapped int64) *output {
	t.Helper()
	o, err := openOutput(path, mapped)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return o
}

func expectLines(t *testing.T, path, want string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	err = eachLine(f, func(line []byte) error { _, err := got.Write(line); return err })
	if err = errors.Join(err, f.Close()); err != nil || got.String() != want {
		t.Errorf("lines %q, %v; want %q", &got, err, want)
	}
}

// TestOutputIsReadWhileItGrows reads the file after each line, with spaces behind it and without.
func TestOutputIsReadWhileItGrows(t *testing.T) {
	for name, mapped := range map[string]int64{"mapped": 4 * extent, "too short": 8, "not mapped": -1} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.jsonl")
			o, want := openTestOutput(t, path, mapped), ""
			if (o.memory == nil) != (mapped < 0) {
				t.Fatalf("mapped are %d bytes of %d", len(o.memory), mapped)
			}
			for i := range 100 {
				line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 100*i))
				if err := o.write([]byte(line)); err != nil {
					t.Fatal(err)
				}
				want += line
				expectLines(t, path, want)
			}
			if err := o.close(); err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != want {
				t.Errorf("at the end the file has %d bytes, %v; want %d, its lines and nothing else", len(text), err, len(want))
			}
		})
	}
}

// TestOutputAfterACrash opens what a process left that was killed: spaces, and a line of which all is there but its
// first byte, or only a part.
func TestOutputAfterACrash(t *testing.T) {
	const whole = `{"seq":1}` + "\n"
	blanks := strings.Repeat(" ", 3*maxLine)
	for name, left := range map[string]string{
		"nothing": "", "spaces": blanks, "no first byte": ` "seq":2}` + "\n" + blanks, "a part": `{"seq":2`,
		"a part and spaces": `{"seq":2` + blanks, "no end of it": ` "seq":2`,
		"a part and what came after it": ` "seq":2}` + "\n" + `{"seq":3}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.jsonl")
			if err := os.WriteFile(path, []byte(whole+left), 0o600); err != nil {
				t.Fatal(err)
			}
			expectLines(t, path, whole)
			o := openTestOutput(t, path, extent)
			if err := o.write([]byte("{}\n")); err != nil {
				t.Fatal(err)
			}
			expectLines(t, path, whole+"{}\n")
		})
	}
}

// TestOutputMadeShorterBySomebody takes away the file's memory, as whoever empties a journal does that is written to.
func TestOutputMadeShorterBySomebody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	o := openTestOutput(t, path, extent)
	const first = "first\n"
	for range 3000 {
		if err := o.write([]byte(first)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path, int64(len(first))+2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := o.write([]byte("next\n")); err != nil {
			t.Fatal(err)
		}
	}
	expectLines(t, path, first+"next\nnext\n")
}

// TestOutputOnAFullDisk bounds what the process may write, as a full disk does, and takes the bound away again.
func TestOutputOnAFullDisk(t *testing.T) {
	const bounded = "CLOUDTWIN_TEST_FULL_DISK"
	path := os.Getenv(bounded)
	if path == "" {
		// The bound is for all of a process.
		path = filepath.Join(t.TempDir(), "journal.jsonl")
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
		again.Env = append(os.Environ(), bounded+"="+path)
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	o := openTestOutput(t, path, 4*extent)
	line := append(bytes.Repeat([]byte("x"), 999), '\n')
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	const most = extent + 5500
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	written := 0
	for ; written <= most/len(line); written++ {
		if err := o.write(line); err != nil {
			if !errors.Is(err, syscall.EFBIG) {
				t.Errorf("error %v, want the disk's", err)
			}
			break
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if written != most/len(line) {
		t.Errorf("%d lines written, want the %d that there is space for", written, most/len(line))
	}
	expectLines(t, path, strings.Repeat(string(line), written))
	if err := o.write(line); err != nil {
		t.Errorf("with space again: %v", err)
	}
	expectLines(t, path, strings.Repeat(string(line), written+1))
}

// TestOutputThatCannotBeLookedAt is a folder.
func TestOutputThatCannotBeLookedAt(t *testing.T) {
	if _, err := openOutput(t.TempDir(), extent); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("error %v, want that it is a folder", err)
	}
}

// TestRememberedLinesStayAsTheyAre takes lines and lets the memory they were in be used again.
func TestRememberedLinesStayAsTheyAre(t *testing.T) {
	var m memory
	line := func(i int) string { return strconv.Itoa(i) + "\n" }
	next := 0
	var taken [][]byte
	for i := range 4 * keep {
		m.add([]byte(line(i)))
		if i%777 == 0 {
			var lines [][]byte
			lines, next = m.since(next)
			taken = append(taken, lines...)
		}
	}
	for i, text := range taken {
		if string(text) != line(i) {
			t.Fatalf("line %d is %q", i, text)
		}
	}
	if late, after := m.since(0); after != 4*keep || len(late) < keep/2 || len(late) > keep ||
		string(late[0]) != line(4*keep-len(late)) || string(late[len(late)-1]) != line(4*keep-1) {
		t.Errorf("%d lines for who comes late, up to number %d", len(late), after)
	}
	if lines, after := m.since(4 * keep); len(lines) != 0 || after != 4*keep {
		t.Errorf("%d lines and number %d for who has them all", len(lines), after)
	}
	var long memory
	for range 3 * keep / 2 {
		long.add(bytes.Repeat([]byte("x"), mostText/keep*4))
	}
	for range 2 * keep {
		long.add([]byte("\n"))
	}
	if held := cap(long.older.text) + cap(long.newer.text); held > 2*mostText {
		t.Errorf("%d bytes are held for short lines after long ones, want at most %d", held, 2*mostText)
	}
}

func TestCopyIsOfLinesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	if err := Copy(&bytes.Buffer{}, path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that there is none", err)
	}
	o := openTestOutput(t, path, extent)
	for _, line := range []string{"{}\n", "{1}\n"} {
		if err := o.write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	var copied bytes.Buffer
	if err := Copy(&copied, path); err != nil || copied.String() != "{}\n{1}\n" {
		t.Errorf("%q, %v", &copied, err)
	}
}
