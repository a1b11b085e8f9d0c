package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
)

// RequestID is the attribute by which the events of one request are found together.
const RequestID = "requestId"

// maxLine bounds a line of the file that is looked at, in bytes.
const maxLine = 1 << 20

// Request returns the events of one request in their order, from memory or, when they are older, from the file.
func (j *Journal) Request(id string) ([]Event, error) {
	if j == nil || id == "" {
		return nil, nil
	}
	ours := func(ev *Event) bool { return ev.Attributes[RequestID] == id }
	events := slices.DeleteFunc(j.Events(), func(ev Event) bool { return !ours(&ev) })
	if len(events) > 0 || j.path == "" {
		return events, nil
	}
	err := j.scan(func(line []byte) bool { return bytes.Contains(line, []byte(id)) }, func(ev Event) {
		if ours(&ev) {
			events = append(events, ev)
		}
	})
	return events, err
}

// LastRequest returns the id of the latest request that has an event that matches, or empty.
func (j *Journal) LastRequest(match func(*Event) bool) (id string, err error) {
	if j == nil {
		return "", nil
	}
	for _, ev := range slices.Backward(j.Events()) {
		if ev.Attributes[RequestID] != "" && match(&ev) {
			return ev.Attributes[RequestID], nil
		}
	}
	if j.path == "" {
		return "", nil
	}
	err = j.scan(func(line []byte) bool { return bytes.Contains(line, []byte(RequestID)) }, func(ev Event) {
		if match(&ev) {
			id = ev.Attributes[RequestID]
		}
	})
	return id, err
}

// scan reads the files from their beginning and hands on the events whose line is wanted.
func (j *Journal) scan(wanted func(line []byte) bool, handle func(Event)) error {
	for _, older := range []string{auditOf(j.path), previous(j.path)} {
		if err := scanFile(older, wanted, handle); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return scanFile(j.path, wanted, handle)
}

func scanFile(path string, wanted func(line []byte) bool, handle func(Event)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = f.Close() }()
	err = eachLine(f, func(line []byte) error {
		var ev Event
		// A line that a crash cut short is not an event.
		if wanted(line) && json.Unmarshal(line, &ev) == nil {
			handle(ev)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	return nil
}

// eachLine hands on the whole lines of r, each with its end, until it ends or handle fails. A line is valid during the
// call only.
func eachLine(r io.Reader, handle func(line []byte) error) error {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, bufio.ErrBufferFull): // none of ours is that long; the rest of it is no JSON
			continue
		case err != nil:
			return err
		}
		if err := handle(line); err != nil {
			return err
		}
	}
}

// dataSync brings what was written to f to the disk, without the file's times.
func dataSync(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	err = raw.Control(func(fd uintptr) {
		for fault = syscall.EINTR; errors.Is(fault, syscall.EINTR); {
			fault = syscall.Fdatasync(int(fd))
		}
	})
	return errors.Join(err, fault)
}
