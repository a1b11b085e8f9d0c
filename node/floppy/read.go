package floppy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Bounds of what an image may make Read build. A floppy cannot hold more entries than this.
const (
	maxDepth   = 16
	maxEntries = 2 * totalSectors * sectorSize / entrySize
)

// Read opens an image. It reads the directories and checks the whole structure at once: every chain of clusters must
// be as long as its file, end, and share no cluster with another. The contents of files are read from r as they are
// asked for, so r must stay usable. What is wrong with an image is told by an error that is ErrDamaged.
//
// The result also implements fs.ReadDirFS, fs.ReadFileFS and fs.StatFS; its files implement io.ReaderAt and
// io.Seeker. Names are matched exactly.
func Read(r io.ReaderAt) (fs.FS, error) {
	v, err := readVolume(r)
	if err != nil {
		return nil, fmt.Errorf("read floppy: %w", err)
	}
	return v, nil
}

// volume is an open image.
type volume struct {
	r    io.ReaderAt
	geo  geometry
	root *node
}

// node is a file or directory.
type node struct {
	name     string
	dir      bool
	readOnly bool
	size     int64
	modified time.Time
	clusters []uint16
	children []*node // of a directory, by name
}

// reader is the state of one Read.
type reader struct {
	*volume
	fat     []byte
	used    []bool // clusters that belong to something
	entries int
}

func readVolume(r io.ReaderAt) (*volume, error) {
	boot, err := readAt(r, 0, sectorSize)
	if err != nil {
		return nil, err
	}
	geo, err := parseBoot(boot)
	if err != nil {
		return nil, err
	}
	if _, err := readAt(r, geo.size-1, 1); err != nil {
		return nil, err
	}
	fat, err := readAt(r, geo.fatStart, geo.fatSize)
	if err != nil {
		return nil, err
	}
	for i := 1; i < geo.fats; i++ {
		second, err := readAt(r, geo.fatStart+int64(i*geo.fatSize), geo.fatSize)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(fat, second) {
			return nil, damaged("the allocation tables differ")
		}
	}
	v := &volume{r: r, geo: geo, root: &node{name: ".", dir: true}}
	rd := &reader{volume: v, fat: fat, used: make([]bool, firstCluster+geo.clusters)}
	raw, err := readAt(r, geo.rootStart, geo.rootSize)
	if err != nil {
		return nil, err
	}
	if err := rd.readDir(v.root, raw, 0); err != nil {
		return nil, err
	}
	return v, nil
}

// readAt reads exactly n bytes; too few are damage.
func readAt(r io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, off)
	if got == n {
		return b, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, damaged("it ends before byte %d", off+int64(n))
	}
	return nil, fmt.Errorf("read byte %d: %w", off, err)
}

// readDir fills d from the bytes of its entries.
func (rd *reader) readDir(d *node, raw []byte, depth int) error {
	if depth > maxDepth {
		return damaged("directories are nested deeper than %d", maxDepth)
	}
	var long longName
	seen := make(map[string]bool)
	for ; len(raw) >= entrySize; raw = raw[entrySize:] {
		e := raw[:entrySize]
		if e[0] == 0 {
			break // nothing was ever written from here on
		}
		if rd.entries++; rd.entries > maxEntries {
			return damaged("more than %d directory entries", maxEntries)
		}
		attr := e[11] & attrMask
		switch {
		case e[0] == 0xe5: // deleted
			long = longName{}
			continue
		case attr == attrLongName:
			long.add(e)
			continue
		case attr&attrVolume != 0:
			long = longName{}
			continue
		}
		n, err := rd.readEntry(e, &long, depth)
		if err != nil {
			return err
		}
		if n == nil {
			continue
		}
		fold := strings.ToUpper(n.name)
		if seen[fold] {
			return damaged("%q is there twice", n.name)
		}
		seen[fold] = true
		d.children = append(d.children, n)
	}
	slices.SortFunc(d.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return nil
}

// readEntry makes a file or directory of its entry, or nothing of a directory's links to itself and its parent.
func (rd *reader) readEntry(e []byte, long *longName, depth int) (*node, error) {
	short := shortName(e[:11])
	name, ok := long.take(short)
	if !ok {
		name = short.text(e[12])
	}
	le := binary.LittleEndian
	n := &node{
		name:     name,
		dir:      e[11]&attrDirectory != 0,
		readOnly: e[11]&attrReadOnly != 0,
		modified: goTime(le.Uint16(e[24:]), le.Uint16(e[22:])),
	}
	if depth > 0 && n.dir && (name == "." || name == "..") {
		return nil, nil
	}
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "/\\\x00") {
		return nil, damaged("a file is called %q", name)
	}
	first, size := int(le.Uint16(e[26:])), int64(le.Uint32(e[28:]))
	chain, err := rd.chain(name, first)
	if err != nil {
		return nil, err
	}
	n.clusters = chain
	if !n.dir {
		n.size = size
		if need := (size + int64(rd.geo.clusterSize) - 1) / int64(rd.geo.clusterSize); need != int64(len(chain)) {
			return nil, damaged("%s: %d bytes in %d clusters of %d", name, size, len(chain), rd.geo.clusterSize)
		}
		return n, nil
	}
	if size != 0 || len(chain) == 0 {
		return nil, damaged("directory %s: size %d, %d clusters", name, size, len(chain))
	}
	return n, rd.readSubdir(n, depth+1)
}

// readSubdir fills n from its clusters.
func (rd *reader) readSubdir(n *node, depth int) error {
	raw := make([]byte, 0, len(n.clusters)*rd.geo.clusterSize)
	for _, c := range n.clusters {
		b, err := readAt(rd.r, rd.offset(c), rd.geo.clusterSize)
		if err != nil {
			return err
		}
		raw = append(raw, b...)
	}
	return rd.readDir(n, raw, depth)
}

// chain follows a file's clusters. No cluster is taken twice, so it ends.
func (rd *reader) chain(name string, first int) ([]uint16, error) {
	if first == 0 {
		return nil, nil
	}
	var chain []uint16
	for c := first; c < endOfChain; c = fatEntry(rd.fat, c) {
		switch {
		case c == badCluster:
			return nil, damaged("%s leads to a bad cluster", name)
		case c < firstCluster || c >= len(rd.used):
			return nil, damaged("%s leads to cluster %d, which is not there", name, c)
		case rd.used[c]:
			return nil, damaged("%s leads to cluster %d, which is taken", name, c)
		}
		rd.used[c] = true
		chain = append(chain, uint16(c))
	}
	return chain, nil
}

// offset is where a cluster's bytes begin.
func (v *volume) offset(cluster uint16) int64 {
	return v.geo.dataStart + int64(cluster-firstCluster)*int64(v.geo.clusterSize)
}
