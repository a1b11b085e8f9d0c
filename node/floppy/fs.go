package floppy

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"
)

var (
	_ fs.ReadDirFS  = (*volume)(nil)
	_ fs.ReadFileFS = (*volume)(nil)
	_ fs.StatFS     = (*volume)(nil)
)

// find returns what is at a path.
func (v *volume) find(op, path string) (*node, error) {
	if !fs.ValidPath(path) {
		return nil, &fs.PathError{Op: op, Path: path, Err: fs.ErrInvalid}
	}
	n := v.root
	if path == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(path, "/") {
		if n = n.child(part); n == nil {
			return nil, &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// Open implements fs.FS.
func (v *volume) Open(name string) (fs.File, error) {
	n, err := v.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return &openDir{node: n, path: name}, nil
	}
	return &openFile{
		SectionReader: io.NewSectionReader(&content{v, n}, 0, n.size), node: n, path: name,
	}, nil
}

// ReadDir implements fs.ReadDirFS.
func (v *volume) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := v.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return n.list(0, len(n.children)), nil
}

// ReadFile implements fs.ReadFileFS.
func (v *volume) ReadFile(name string) ([]byte, error) {
	n, err := v.find("read", name)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	b := make([]byte, n.size) // no longer than its clusters, which are on the floppy
	if _, err := (&content{v, n}).ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

// Stat implements fs.StatFS.
func (v *volume) Stat(name string) (fs.FileInfo, error) {
	n, err := v.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{n}, nil
}

// content reads a file's bytes from its clusters.
type content struct {
	v *volume
	n *node
}

// ReadAt implements io.ReaderAt.
func (c *content) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	done := 0
	size := int64(c.v.geo.clusterSize)
	for done < len(b) && off < c.n.size {
		at := off % size
		want := int(min(size-at, c.n.size-off, int64(len(b)-done)))
		got, err := c.v.r.ReadAt(b[done:done+want], c.v.offset(c.n.clusters[off/size])+at)
		done += got
		off += int64(got)
		if got < want {
			if err == nil || errors.Is(err, io.EOF) {
				err = damaged("%s is cut off", c.n.name)
			}
			return done, err
		}
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// openFile is an open file. SectionReader gives it Read, ReadAt and Seek.
type openFile struct {
	*io.SectionReader
	node   *node
	path   string
	closed bool
}

func (f *openFile) Stat() (fs.FileInfo, error) { return info{f.node}, nil }

func (f *openFile) Read(b []byte) (int, error) {
	if f.closed {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: fs.ErrClosed}
	}
	return f.SectionReader.Read(b)
}

func (f *openFile) Close() error {
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.path, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}

// openDir is an open directory.
type openDir struct {
	node *node
	path string
	next int
}

func (d *openDir) Stat() (fs.FileInfo, error) { return info{d.node}, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.path, Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	left := len(d.node.children) - d.next
	if n > 0 && left == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > left {
		n = left
	}
	list := d.node.list(d.next, d.next+n)
	d.next += n
	return list, nil
}

func (n *node) list(from, to int) []fs.DirEntry {
	list := make([]fs.DirEntry, 0, to-from)
	for _, c := range n.children[from:to] {
		list = append(list, fs.FileInfoToDirEntry(info{c}))
	}
	return list
}

// info describes a node.
type info struct{ n *node }

func (i info) Name() string       { return i.n.name }
func (i info) Size() int64        { return i.n.size }
func (i info) ModTime() time.Time { return i.n.modified }
func (i info) IsDir() bool        { return i.n.dir }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	mode := fs.FileMode(0o600)
	if i.n.readOnly {
		mode = 0o400
	}
	if i.n.dir {
		mode |= fs.ModeDir | 0o100
	}
	return mode
}
