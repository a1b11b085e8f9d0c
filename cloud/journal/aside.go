package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Files that were put aside have the number of their first event behind the journal's name, and .zst behind that once
// they are compressed.
const (
	numberWidth = 20
	pressed     = ".zst"
	unfinished  = ".tmp"
)

func aside(path string, first uint64) string { return fmt.Sprintf("%s.%0*d", path, numberWidth, first) }

// part is a file that was put aside.
type part struct {
	name    string // without pressed
	first   uint64 // number of its first event
	pressed bool
	plain   bool // a crash may leave both
}

// parts lists what was put aside, oldest first.
func parts(path string) ([]part, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	found := map[uint64]*part{}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		digits, zst := strings.CutSuffix(rest, pressed)
		first, err := strconv.ParseUint(digits, 10, 64)
		if !ours || err != nil || len(digits) != numberWidth {
			continue
		}
		if found[first] == nil {
			found[first] = &part{name: aside(path, first), first: first}
		}
		p := found[first]
		p.pressed, p.plain = p.pressed || zst, p.plain || !zst
	}
	list := make([]part, 0, len(found))
	for _, p := range found {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b part) int { return cmp.Compare(a.first, b.first) })
	return list, nil
}

// adopt gives the file that a journal of earlier days put aside, of which there was one, today's name.
func adopt(path string) error {
	old := path + ".1"
	f, err := os.Open(old)
	if err != nil {
		return missing(err)
	}
	first, err := firstIn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(old, aside(path, first))
}

// pressAll compresses what is put aside and not compressed yet, and drops the oldest of it, so that no more than so
// many bytes stay.
func pressAll(path string, kept int64) error {
	list, err := parts(path)
	if err != nil {
		return err
	}
	encoder, err := newEncoder()
	if err != nil {
		return fmt.Errorf("compress journal: %w", err)
	}
	for _, p := range list {
		if err := p.press(encoder); err != nil {
			return fmt.Errorf("compress journal: %w", err)
		}
	}
	sizes := make([]int64, len(list))
	total := int64(0)
	for i, p := range list {
		info, err := os.Stat(p.name + pressed)
		if err != nil {
			return fmt.Errorf("look at journal: %w", err)
		}
		sizes[i] = info.Size()
		total += info.Size()
	}
	for i, p := range list {
		if total <= kept {
			break
		}
		if err := keepAudit(path, p, min(kept, largestFile)); err != nil {
			return fmt.Errorf("keep the audit: %w", err)
		}
		if err := os.Remove(p.name + pressed); err != nil {
			return fmt.Errorf("drop the oldest of the journal: %w", err)
		}
		total -= sizes[i]
	}
	return nil
}

// press compresses a file. It is on the disk before the plain one goes.
func (p part) press(with *zstd.Encoder) (err error) {
	if p.plain && p.pressed {
		return os.Remove(p.name) // a crash came in between
	}
	if p.pressed {
		return nil
	}
	in, err := os.Open(p.name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	temporary := p.name + pressed + unfinished
	out, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = errors.Join(compress(with, out, in), dataSync(out), out.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, p.name+pressed); err != nil {
		return err
	}
	return os.Remove(p.name)
}

// newEncoder compresses with one goroutine and little memory: nobody waits for it, and the cloud has other work.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderLevel(zstd.SpeedFastest))
}

func compress(with *zstd.Encoder, out io.Writer, in io.Reader) error {
	with.Reset(out)
	_, err := with.ReadFrom(in)
	return errors.Join(err, with.Close())
}

// open opens what was put aside, in whatever form it has by now.
func (p part) open() (io.ReadCloser, error) {
	f, err := os.Open(p.name + pressed)
	if errors.Is(err, fs.ErrNotExist) {
		plain, err := os.Open(p.name)
		if !errors.Is(err, fs.ErrNotExist) {
			return plain, err
		}
		if f, err = os.Open(p.name + pressed); err != nil { // it was compressed between the two
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &pressedReader{Decoder: r, file: f}, nil
}

type pressedReader struct {
	*zstd.Decoder
	file *os.File
}

// Close implements io.Closer.
func (r *pressedReader) Close() error {
	r.Decoder.Close()
	return r.file.Close()
}
