package bundle

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Events lie in several files of a bundle, so that they are unpacked and read on all cores at once.
const (
	// mostInPart and largestPart bound one of them, in events and in bytes; a reader has a few of them in memory.
	mostInPart  = 32 << 10
	largestPart = 8 << 20
)

func partName(n int) string { return fmt.Sprintf("%s/%06d.jsonl", eventsFolder, n) }

// eventParts are the bundle's files of events, in order.
func (b *Bundle) eventParts() (parts []File) {
	for _, f := range b.Manifest.Files {
		if f.Name == eventsFile || path.Dir(f.Name) == eventsFolder && strings.HasSuffix(f.Name, ".jsonl") {
			parts = append(parts, f)
		}
	}
	slices.SortFunc(parts, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return parts
}

// partRead is what a goroutine made of a part.
type partRead[T any] struct {
	value T
	err   error
}

// eachPart has digest make something of every line of every part, on all cores, and hands the results on in the parts'
// order. What is read is compared with the manifest. A digest is of one part, whose number from 0 it is told, and of
// one goroutine.
func eachPart[T any](b *Bundle, digest func(part int) (each func(*line, words) error, done func() T),
	handle func(T) error) error {
	parts := b.eventParts()
	if len(parts) == 0 {
		return fmt.Errorf("%w: it has no events", ErrNotBundle)
	}
	results := make([]chan partRead[T], len(parts))
	for i := range results {
		results[i] = make(chan partRead[T], 1)
	}
	// A worker begins a part when there is room for it: so a slow handle does not fill the memory.
	room := make(chan int)
	workers := min(runtime.GOMAXPROCS(0), len(parts))
	var work sync.WaitGroup
	defer work.Wait()
	defer close(room)
	for range workers {
		work.Go(func() {
			w := words{}
			for i := range room {
				each, done := digest(i)
				err := b.readPart(parts[i], w, each)
				results[i] <- partRead[T]{done(), err}
			}
		})
	}
	next := 0
	for i := range results {
		for ; next < len(parts) && next < i+2*workers; next++ {
			select {
			case room <- next:
				continue
			case r := <-results[i]: // all are busy; this one is ready
				results[i] <- r
			}
			break
		}
		r := <-results[i]
		if r.err != nil {
			return r.err
		}
		if err := handle(r.value); err != nil {
			return err
		}
	}
	return nil
}

// readPart hands on every line of a part and compares the part with its checksum.
func (b *Bundle) readPart(part File, w words, each func(*line, words) error) error {
	wrong := func(err error) error { return fmt.Errorf("%w: %s: %w", ErrNotBundle, part.Name, err) }
	r, err := b.zip.Open(part.Name)
	if err != nil {
		return wrong(err)
	}
	defer func() { _ = r.Close() }()
	sum := sha256.New()
	lines := bufio.NewScanner(&summing{r, sum})
	lines.Buffer(make([]byte, 256<<10), maxLine)
	var l line
	for n := 1; lines.Scan(); n++ {
		if err := l.cut(lines.Bytes(), w); err != nil {
			return fmt.Errorf("%w: line %d of %s: %w", ErrNotBundle, n, part.Name, err)
		}
		if err := each(&l, w); err != nil {
			return fmt.Errorf("line %d of %s: %w", n, part.Name, err)
		}
	}
	if err := lines.Err(); err != nil {
		return wrong(err)
	}
	return b.compare(part, sum)
}

// compare holds what was read of a file against the manifest, and notes that it was.
func (b *Bundle) compare(f File, sum hash.Hash) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("%w: the SHA-256 of %s is %s, its manifest says %s", ErrNotBundle, f.Name, got, f.SHA256)
	}
	b.checked.Store(f.Name, true)
	return nil
}

// summing sums up what is read.
type summing struct {
	io.Reader
	sum hash.Hash
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	_, _ = s.sum.Write(p[:n])
	return n, err
}

// Events hands on every event, in order. It reads on all cores; handle is called from the caller's goroutine.
func (b *Bundle) Events(handle func(*journal.Event) error) error {
	digest := func(int) (func(*line, words) error, func() []journal.Event) {
		var events []journal.Event
		return func(l *line, w words) error {
				ev, err := l.event(w)
				events = append(events, ev)
				return err
			}, func() []journal.Event {
				return events
			}
	}
	return eachPart(b, digest, func(events []journal.Event) error {
		for i := range events {
			if err := handle(&events[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// partWriter writes events into as many parts as they need. create makes a file of the bundle.
type partWriter struct {
	create func(name string) (io.WriteCloser, error)
	most   int // events in a part; 0 means mostInPart
	parts  int
	file   io.WriteCloser
	out    *bufio.Writer
	events int
	bytes  int
}

// write adds one event, as its line with the newline at its end.
func (p *partWriter) write(text []byte) error {
	if p.file == nil || p.events >= cmp.Or(p.most, mostInPart) || p.bytes+len(text) > largestPart {
		if err := p.next(); err != nil {
			return err
		}
	}
	p.events++
	p.bytes += len(text)
	_, err := p.out.Write(text)
	return err
}

func (p *partWriter) next() (err error) {
	if err = p.end(); err != nil {
		return err
	}
	p.parts++
	p.events, p.bytes = 0, 0
	if p.file, err = p.create(partName(p.parts)); err != nil {
		return err
	}
	if p.out == nil {
		p.out = bufio.NewWriterSize(p.file, 256<<10)
	}
	p.out.Reset(p.file)
	return nil
}

func (p *partWriter) end() error {
	if p.file == nil {
		return nil
	}
	err := errors.Join(p.out.Flush(), p.file.Close())
	p.file = nil
	return err
}

// close ends the last part. Without an event there is one that is empty: the reader finds none missing.
func (p *partWriter) close() error {
	if p.parts == 0 {
		if err := p.next(); err != nil {
			return err
		}
	}
	return p.end()
}

// mentions says whether a stream holds one of the texts, none of which is longer than 64 bytes.
func mentions(r io.Reader, texts [][]byte) (bool, error) {
	const longest, size = 64, 1 << 20
	buffer := make([]byte, size)
	kept := 0
	for {
		n, err := io.ReadFull(r, buffer[kept:])
		data := buffer[:kept+n]
		for _, text := range texts {
			if bytes.Contains(data, text) {
				return true, nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buffer, data[max(0, len(data)-longest):])
	}
}
