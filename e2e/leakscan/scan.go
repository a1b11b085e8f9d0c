package leakscan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Finding is a piece of a key in a place where somebody could read it. It holds nothing of the key.
type Finding struct {
	Place  string // file, or process and mapping
	Offset int64  // bytes from the place's beginning; in a process, the address
	Length int    // bytes in a row
	Key    string
	Form   string
}

// String is a line for people.
func (f Finding) String() string {
	return fmt.Sprintf("%s: offset %#x: %d bytes of %s (%s)", f.Place, f.Offset, f.Length, f.Key, f.Form)
}

// Scanner looks for keys. It is made once for all places and may be used from one goroutine.
type Scanner struct {
	matcher *matcher
	buffer  []byte
	zeros   []byte
	// Bytes counts what was looked at.
	Bytes int64
}

// chunk is how much is read at once, in bytes.
const chunk = 1 << 20

// NewScanner makes a scanner for keys.
func NewScanner(keys []Key) *Scanner {
	m := newMatcher(keys)
	return &Scanner{matcher: m, buffer: make([]byte, chunk+m.longest), zeros: make([]byte, chunk+m.longest)}
}

// Reader looks at a stream whose first byte is at offset start of place.
func (s *Scanner) Reader(place string, start int64, r io.Reader) ([]Finding, error) {
	var list []Finding
	kept, at := 0, start
	for {
		n, err := io.ReadFull(r, s.buffer[kept:kept+chunk])
		s.Bytes += int64(n)
		data := s.buffer[:kept+n]
		if !isZero(data, s.zeros) {
			s.matcher.find(data, func(hit match) {
				list = s.add(list, place, at-int64(kept), hit)
			})
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = nil
			}
			return list, err
		}
		// A form may lie across the border: its longest is looked at again.
		at += int64(n)
		keep := min(s.matcher.longest, len(data))
		copy(s.buffer, data[len(data)-keep:])
		kept = keep
	}
}

// add notes a stretch, or makes the one of the chunk before longer that it goes on from.
func (s *Scanner) add(list []Finding, place string, base int64, hit match) []Finding {
	f := Finding{
		Place: place, Offset: base + int64(hit.from), Length: hit.to - hit.from,
		Key: s.matcher.keys[hit.key].Name, Form: s.matcher.keys[hit.key].forms[hit.form].what,
	}
	for i := range list {
		old := &list[i]
		if old.Key == f.Key && old.Form == f.Form && f.Offset <= old.Offset+int64(old.Length) &&
			old.Offset <= f.Offset+int64(f.Length) {
			end := max(old.Offset+int64(old.Length), f.Offset+int64(f.Length))
			old.Offset = min(old.Offset, f.Offset)
			old.Length = int(end - old.Offset)
			return list
		}
	}
	return append(list, f)
}

func (s *Scanner) bytesOf(path string) ([]Finding, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var list []Finding
	for at := int64(0); ; {
		from, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return list, nil // nothing but a hole up to the end
		}
		if err != nil { // a file system without holes
			if _, err := f.Seek(at, io.SeekStart); err != nil {
				return list, err
			}
			more, err := s.Reader(path, at, f)
			return append(list, more...), err
		}
		to, err := f.Seek(from, seekHole)
		if err != nil {
			return list, err
		}
		more, err := s.Reader(path, from, io.NewSectionReader(f, from, to-from))
		list = append(list, more...)
		if err != nil {
			return list, err
		}
		at = to
	}
}

// The kinds of lseek that find data and holes (lseek(2)).
const (
	seekData = 3
	seekHole = 4
)

// Tree looks at every file below path, which may be a file itself. Sockets, pipes and devices hold no bytes of their
// own. A file that goes while it is looked for counts as clean; one that cannot be read is an error.
func (s *Scanner) Tree(ctx context.Context, path string) ([]Finding, error) {
	var list []Finding
	var unread []error
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist) && name != path:
			return nil
		case err != nil:
			unread = append(unread, err)
			return nil
		case !entry.Type().IsRegular():
			return nil
		}
		more, err := s.File(name)
		if list = append(list, more...); err != nil && !errors.Is(err, fs.ErrNotExist) {
			unread = append(unread, err)
		}
		return nil
	})
	sortFindings(list)
	return list, errors.Join(err, errors.Join(unread...))
}
