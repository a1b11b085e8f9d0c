package guest

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"
)

// memoryFS holds the files of one folder in memory. Close wipes them.
type memoryFS struct {
	mu    sync.Mutex
	files map[string][]byte
}

var (
	_ fs.ReadDirFS = (*memoryFS)(nil)
	_ io.Closer    = (*memoryFS)(nil)
)

// Open implements fs.FS. An open file is a copy of its own.
func (m *memoryFS) Open(name string) (fs.File, error) {
	if name == "." {
		entries, err := m.ReadDir(name)
		return &memoryDir{entries: entries}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok || !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	data = bytes.Clone(data)
	return &memoryFile{info: memoryInfo{name, int64(len(data))}, data: data, Reader: bytes.NewReader(data)}, nil
}

// ReadDir implements fs.ReadDirFS.
func (m *memoryFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		entries = append(entries, fs.FileInfoToDirEntry(memoryInfo{name, int64(len(m.files[name]))}))
	}
	return entries, nil
}

// Close overwrites the files' contents and forgets them.
func (m *memoryFS) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, data := range m.files {
		clear(data)
	}
	clear(m.files)
	return nil
}

type memoryFile struct {
	*bytes.Reader
	info memoryInfo
	data []byte
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close wipes this file's copy.
func (f *memoryFile) Close() error {
	clear(f.data)
	return nil
}

type memoryDir struct{ entries []fs.DirEntry }

func (d *memoryDir) Stat() (fs.FileInfo, error) { return memoryInfo{name: "."}, nil }
func (d *memoryDir) Close() error               { return nil }

func (d *memoryDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (d *memoryDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.entries) {
		if n > 0 && len(d.entries) == 0 {
			return nil, io.EOF
		}
		n = len(d.entries)
	}
	got := d.entries[:n]
	d.entries = d.entries[n:]
	return got, nil
}

type memoryInfo struct {
	name string
	size int64
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return i.size }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }
func (i memoryInfo) IsDir() bool        { return i.name == "." }
func (i memoryInfo) Sys() any           { return nil }

func (i memoryInfo) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o500
	}
	return 0o400
}

// failedFS is a medium that could not be read.
type failedFS struct{ err error }

func (f failedFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
}
