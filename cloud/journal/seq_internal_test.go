package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// In small files of three lines some ten are kept, beside the audit.
var (
	large = limits{file: largestFile, kept: keptFiles}
	small = limits{file: 300, kept: 2000}
)

func record(t *testing.T, path string, l limits, subjects ...string) {
	t.Helper()
	j, err := openLimited(path, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range subjects {
		j.Record(t.Context(), Event{Kind: "delivery.test", Subject: subject})
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func expectInOrder(t *testing.T, path string, want int) {
	t.Helper()
	next := 0
	if err := Read(path, func(ev Event) {
		if ev.Subject != strconv.Itoa(next) || ev.Seq != uint64(next+1) {
			t.Errorf("event %d is %q with number %d", next, ev.Subject, ev.Seq)
		}
		next++
	}); err != nil {
		t.Fatal(err)
	}
	if next != want {
		t.Errorf("%d events, want %d", next, want)
	}
}

func TestNumbersGoOnInTheNextProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	record(t, path, large, "0", "1")
	record(t, path, large, "2")
	expectInOrder(t, path, 3)
}

// TestNumbersGoOnBehindSpaces looks for the last number from the middle of a line on, of a text of spaces: that is not
// where the lines end, though it begins with a space.
func TestNumbersGoOnBehindSpaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	const all = 30
	subjects := slices.Repeat([]string{strings.Repeat(" ", 100_000)}, all)
	record(t, path, large, subjects...)
	j, err := openLimited(path, large)
	if err != nil {
		t.Fatal(err)
	}
	j.Record(t.Context(), Event{Kind: "test"})
	if events := j.Events(); len(events) != 1 || events[0].Seq != all+1 {
		t.Errorf("after %d events the next one is %+v", all, events)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestNumbersGoOnWhenTheFileTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	const all = 40
	for i := range all {
		record(t, path, small, strconv.Itoa(i)) // each a process of its own; three lines fill the file
	}
	expectInOrder(t, path, all)
}

func TestEventsThatACrashLeftTwiceAreReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		kind := "delivery.test"
		if i == 1 {
			kind = "test"
		}
		j.Record(t.Context(), Event{Kind: kind, Subject: strconv.Itoa(i)})
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	expectInOrder(t, path, 5)
	list, err := parts(path)
	if err != nil || len(list) == 0 || !list[0].pressed {
		t.Fatalf("put aside: %+v, %v, want one that is compressed", list, err)
	}
	// The crash between putting the audit aside and dropping the file that it is from: that is still there.
	if err := keepAudit(path, list[0], largestFile); err != nil {
		t.Fatal(err)
	}
	expectInOrder(t, path, 5)
	// The crash between compressing a file and dropping it.
	text, err := list[0].open()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(text)
	if err = errors.Join(err, text.Close(), os.WriteFile(list[0].name, plain, 0o600)); err != nil {
		t.Fatal(err)
	}
	expectInOrder(t, path, 5)
	record(t, path, small, "5")
	expectInOrder(t, path, 6)
	if _, err := os.Stat(list[0].name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there still, beside its compressed form: %v", err)
	}
}

// TestCrashWhileAFileIsPutAside leaves one file with two names.
func TestCrashWhileAFileIsPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	record(t, path, large, "0", "1")
	if err := os.Link(path, aside(path, 1)); err != nil {
		t.Fatal(err)
	}
	expectInOrder(t, path, 2)
	record(t, path, large, "2")
	expectInOrder(t, path, 3)
	if list, err := parts(path); err != nil || len(list) != 0 {
		t.Errorf("put aside: %+v, %v, want nothing", list, err)
	}
}

// TestJournalOfEarlierDays put one file aside, under a name of its own.
func TestJournalOfEarlierDays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	record(t, path, large, "0", "1")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	record(t, path, large, "2")
	expectInOrder(t, path, 3)
}

// TestReadWhileItIsWritten reads again and again what is being put aside and compressed meanwhile: events come in their
// order, each once, without a gap.
func TestReadWhileItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := openLimited(path, limits{file: 2000, kept: keptFiles})
	if err != nil {
		t.Fatal(err)
	}
	const all = 3000
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range all {
			j.Record(t.Context(), Event{Kind: "test", Subject: strconv.Itoa(i)})
		}
	}()
	for over := false; !over; {
		select {
		case <-written:
			over = true
		default:
		}
		last := uint64(0)
		err := Read(path, func(ev Event) {
			if ev.Seq != last+1 {
				t.Errorf("event %d follows %d", ev.Seq, last)
			}
			last = ev.Seq
		})
		if err != nil {
			t.Fatal(err)
		}
		if over && last != all {
			t.Errorf("%d events, want %d", last, all)
		}
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestLineThatACrashCutShortTakesNoOtherWithIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	record(t, path, large, "0")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":2,"time":"2026-`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	record(t, path, large, "1")
	expectInOrder(t, path, 2)
}

func TestReadOfNoJournal(t *testing.T) {
	err := Read(filepath.Join(t.TempDir(), "journal.jsonl"), func(Event) { t.Error("an event") })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want that there is none", err)
	}
}
