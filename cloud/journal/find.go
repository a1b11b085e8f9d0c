package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
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
	named := func(line []byte) bool { return bytes.Contains(line, []byte(id)) }
	var events []Event
	take := func(ev Event) {
		if ev.Attributes[RequestID] == id {
			events = append(events, ev)
		}
	}
	lines, _ := j.since(0)
	for _, line := range lines {
		if ev, ok := decodeIf(named, line); ok {
			take(ev)
		}
	}
	if len(events) > 0 || j.path == "" {
		return events, nil
	}
	err := j.scan(named, take)
	return events, err
}

// decodeIf reads a line that is wanted.
func decodeIf(wanted func(line []byte) bool, line []byte) (ev Event, ok bool) {
	if !wanted(line) {
		return ev, false
	}
	return decode(line)
}

// LastRequest returns the id of the latest request that has an event that matches, or empty.
func (j *Journal) LastRequest(match func(*Event) bool) (id string, err error) {
	if j == nil {
		return "", nil
	}
	named := func(line []byte) bool { return bytes.Contains(line, []byte(RequestID)) }
	lines, _ := j.since(0)
	for _, line := range slices.Backward(lines) {
		if ev, ok := decodeIf(named, line); ok && ev.Attributes[RequestID] != "" && match(&ev) {
			return ev.Attributes[RequestID], nil
		}
	}
	if j.path == "" {
		return "", nil
	}
	err = j.scan(named, func(ev Event) {
		if match(&ev) {
			id = ev.Attributes[RequestID]
		}
	})
	return id, err
}

// scan reads the files from their beginning and hands on the events whose line is wanted.
func (j *Journal) scan(wanted func(line []byte) bool, handle func(Event)) error {
	return scanFiles(j.path, wanted, handle)
}

// Read hands on every event of the journal at path that its files still hold, in order and once, whether a process
// appends to it or not. Without a journal the error is fs.ErrNotExist.
func Read(path string, handle func(Event)) error {
	return scanFiles(path, func([]byte) bool { return true }, handle)
}

// Copy writes the lines that the newest file of the journal at path has, as they are.
func Copy(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("copy journal: %w", err)
	}
	err = eachLine(f, func(line []byte) error {
		_, err := to.Write(line)
		return err
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("copy journal: %w", err)
	}
	return nil
}

func scanFiles(path string, wanted func(line []byte) bool, handle func(Event)) error {
	// Opened first: if it is put aside meanwhile, it is read all the same, and once.
	newest, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = newest.Close() }()
	list, err := parts(path)
	if err != nil {
		return err
	}
	// A crash while the audit was put aside may have left events in it and in the file that they are from.
	if err := scanAudit(path, 0, beginOf(list, 0), wanted, handle); err != nil {
		return err
	}
	last := uint64(0)
	once := func(ev Event) {
		if ev.Seq > last || ev.Seq == 0 {
			last = ev.Seq
			handle(ev)
		}
	}
	for i, p := range list {
		f, err := p.open()
		switch {
		case err != nil && missing(err) == nil: // dropped meanwhile, and what must not be lost is in the audit now
			if err := scanAudit(path, p.first, beginOf(list, i+1), wanted, once); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("read journal: %w", err)
		}
		if err := errors.Join(scan(f, wanted, once), f.Close()); err != nil {
			return err
		}
	}
	return scan(newest, wanted, once)
}

// beginOf returns the number of the first event of a part; of what comes after all, it is greater than any.
func beginOf(list []part, i int) uint64 {
	if i < len(list) {
		return list[i].first
	}
	return math.MaxUint64
}

// latest returns the number of the last event at path, 0 when there is none.
func latest(path string) (seq uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	seq, err = latestIn(f)
	if err = errors.Join(err, f.Close()); err != nil || seq > 0 {
		return seq, err
	}
	list, err := parts(path)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	last, err := list[len(list)-1].open()
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	err = scan(last, func([]byte) bool { return true }, func(ev Event) { seq = max(seq, ev.Seq) })
	return seq, errors.Join(err, last.Close())
}

// latestIn looks at the end of a file, where at least one whole line is.
func latestIn(f *os.File) (seq uint64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	from := max(0, info.Size()-2*maxLine)
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	lines := bufio.NewReaderSize(f, maxLine)
	for err := bufio.ErrBufferFull; from > 0 && errors.Is(err, bufio.ErrBufferFull); {
		_, err = lines.ReadSlice('\n') // the rest of a line: what that begins with says nothing
	}
	err = eachLine(lines, func(line []byte) error {
		seq = max(seq, seqIn(line))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	return seq, nil
}

func scan(r io.Reader, wanted func(line []byte) bool, handle func(Event)) error {
	err := eachLine(r, func(line []byte) error {
		// A line that a crash cut short is not an event.
		if ev, ok := decodeIf(wanted, line); ok {
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
	_, err := walk(r, handle)
	return err
}

// walk is eachLine, and returns where the last of the lines ends, in bytes. They end before one that begins with a
// space: see output.
func walk(r io.Reader, handle func(line []byte) error) (end int64, err error) {
	lines, before := bufio.NewReaderSize(r, maxLine), int64(0) // the part of a line that is too long
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case before == 0 && len(line) > 0 && line[0] == ' ' || errors.Is(err, io.EOF):
			return end, nil
		case errors.Is(err, bufio.ErrBufferFull): // none of ours is that long
			before += int64(len(line))
			continue
		case err != nil:
			return end, err
		case before == 0:
			err = handle(line)
		}
		if err != nil {
			return end, err
		}
		end, before = end+before+int64(len(line)), 0
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
