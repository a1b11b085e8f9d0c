package leakscan

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Process looks at all that a process can read, through /proc/PID/mem: its heap, stacks and mappings, a guest's
// memory among them. It needs the right to trace the process, as gcore does, of which this is the equal without the
// file: the memory of a process that holds keys is best not written anywhere. The process is not stopped.
func (s *Scanner) Process(ctx context.Context, name string, pid int) ([]Finding, error) {
	maps, err := os.Open("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return nil, fmt.Errorf("look at memory of %s: %w", name, err)
	}
	defer func() { _ = maps.Close() }()
	memory, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err != nil {
		return nil, fmt.Errorf("look at memory of %s: %w", name, err)
	}
	defer func() { _ = memory.Close() }()
	var list []Finding
	looked := false
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if ctx.Err() != nil {
			return list, ctx.Err()
		}
		m, ok := parseMapping(lines.Text())
		if !ok {
			continue
		}
		place := fmt.Sprintf("memory of %s (process %d), %s", name, pid, m.name)
		more, err := s.Reader(place, m.from, io.NewSectionReader(memory, m.from, m.to-m.from))
		list = append(list, more...)
		// A mapping that has gone or that has no memory behind it answers EIO.
		if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EFAULT) {
			return list, fmt.Errorf("look at memory of %s: %w", name, err)
		}
		looked = looked || err == nil
	}
	if !looked {
		return list, fmt.Errorf("look at memory of %s: nothing of it can be read", name)
	}
	return list, nil
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	from, to int64
	name     string
}

// parseMapping reads a line; false for what cannot be read or holds no bytes of the process.
func parseMapping(line string) (mapping, bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 || !strings.HasPrefix(fields[1], "r") {
		return mapping{}, false
	}
	low, high, ok := strings.Cut(fields[0], "-")
	from, err := strconv.ParseInt(low, 16, 64)
	to, err2 := strconv.ParseInt(high, 16, 64)
	if !ok || err != nil || err2 != nil {
		return mapping{}, false
	}
	m := mapping{from: from, to: to, name: "anonymous"}
	if len(fields) > 5 {
		m.name = strings.Join(fields[5:], " ")
	}
	return m, !strings.HasPrefix(m.name, "[v")
}
