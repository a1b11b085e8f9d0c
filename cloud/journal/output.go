package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// extent is by how much a file that is mapped grows at a time, in bytes.
const extent = 64 << 10

var blank = bytes.Repeat([]byte{' '}, extent)

// output is the file that is written to. Its lines are stored into memory that is the file's: a write(2) for each would
// take several times as long as all else about an event. Behind the last line are spaces, and a line's first byte is
// stored last, so that whoever reads meanwhile, and who finds the file after a crash, knows where the lines end: where
// one begins with a space. A file that cannot be mapped is written to.
type output struct {
	f      *os.File
	size   int64  // of its lines, in bytes
	first  uint64 // number of the first event that was there when it was opened; 0 when there was none
	length int64  // of the file; more than size when there are spaces behind the lines
	memory []byte // the file from its beginning on; nil when it is written to
	stored atomic.Uint32
}

// openOutput goes on behind the whole lines of the file at path, made with mode 0600 when missing. What is behind them
// a crash cut short: it goes. Of the file, the first so many bytes are mapped.
func openOutput(path string, mapped int64) (*output, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the state folder is the operator's choice
	if err != nil {
		return nil, err
	}
	o := &output{f: f}
	if err := o.cut(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if memory, err := unix.Mmap(int(f.Fd()), 0, int(mapped), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		o.memory = memory
	}
	return o, nil
}

// cut takes away what is behind the file's whole lines.
func (o *output) cut() error {
	info, err := o.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 { // as each new one is: there is nothing to read, and no memory to take for it
		o.size, o.length = 0, 0
		return nil
	}
	end, err := walk(io.NewSectionReader(o.f, 0, info.Size()), func(line []byte) error {
		if o.first == 0 {
			o.first = seqIn(line)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for the end: %w", err)
	}
	o.size, o.length = end, info.Size()
	return o.shorten()
}

// shorten makes the file as long as its lines.
func (o *output) shorten() error {
	if o.length == o.size {
		return nil
	}
	if err := o.f.Truncate(o.size); err != nil {
		return err
	}
	o.length = o.size
	return nil
}

// write adds one line. After an error the file ends with the line before.
func (o *output) write(line []byte) error {
	if end := o.size + int64(len(line)); end <= int64(len(o.memory)) && o.lengthen(end) {
		if o.store(line) {
			o.size = end
			return nil
		}
		if err := errors.Join(o.unmap(), o.cut()); err != nil {
			return err
		}
	}
	n, err := o.f.WriteAt(line, o.size)
	o.length = max(o.length, o.size+int64(n))
	if err != nil {
		return errors.Join(err, o.shorten())
	}
	o.size += int64(n)
	return nil
}

// lengthen adds spaces until the file has so many bytes. It is false when there is no space for them; there may be for
// one line.
func (o *output) lengthen(length int64) bool {
	for o.length < length {
		n, err := o.f.WriteAt(blank[:min(extent, int64(len(o.memory))-o.length)], o.length)
		o.length += int64(n)
		if err != nil {
			return false
		}
	}
	return true
}

// store puts a line into the file's memory. It is false when that is gone: the file was made shorter by somebody else,
// or its disk failed.
func (o *output) store(line []byte) (stored bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			if _, isOfMemory := fault.(interface{ Addr() uintptr }); !isOfMemory {
				panic(fault)
			}
		}
	}()
	to := o.memory[o.size:]
	copy(to[1:], line[1:])
	o.stored.Add(1) // keeps the order of the two stores, on processors that need to be told
	to[0] = line[0]
	return true
}

func (o *output) unmap() error {
	if o.memory == nil {
		return nil
	}
	memory := o.memory
	o.memory = nil
	return unix.Munmap(memory)
}

// finish makes the file as long as its lines. It can still be written to, at write(2)'s pace.
func (o *output) finish() error { return errors.Join(o.unmap(), o.shorten()) }

func (o *output) close() error { return errors.Join(o.finish(), o.f.Close()) }
