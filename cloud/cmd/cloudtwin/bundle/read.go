package bundle

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"golang.org/x/sync/errgroup"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

const (
	// maxManifest bounds a manifest, maxLine a line of events, maxStatus the status, and maxUnpacked a whole bundle, in
	// bytes: a bundle may come from anybody.
	maxManifest = 16 << 20
	maxLine     = 1 << 20
	maxStatus   = 64 << 20
	maxFaults   = 1 << 20
	maxUnpacked = 16 << 30
)

// Bundle is an open bundle.
type Bundle struct {
	Manifest Manifest
	zip      *zip.ReadCloser
	checked  sync.Map // names of files that were compared with the manifest
}

// Open opens a bundle; Close closes it. The error is ErrNotBundle, wrapped, for a file that is none.
func Open(name string) (*Bundle, error) {
	z, err := zip.OpenReader(name)
	if errors.Is(err, zip.ErrFormat) {
		return nil, fmt.Errorf("%w: %s is no zip archive, or it is cut short", ErrNotBundle, name)
	}
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	// Unpacking is most of the time that reading takes; this one is faster than the standard library's.
	z.RegisterDecompressor(zip.Deflate, flate.NewReader)
	b := &Bundle{zip: z}
	if err := b.readManifest(); err != nil {
		return nil, errors.Join(fmt.Errorf("open bundle %s: %w", name, err), z.Close())
	}
	return b, nil
}

// Close closes the file.
func (b *Bundle) Close() error { return b.zip.Close() }

func (b *Bundle) readManifest() error {
	text, err := b.read(manifestFile, maxManifest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &b.Manifest); err != nil {
		return fmt.Errorf("%w: its %s: %w", ErrNotBundle, manifestFile, err)
	}
	if b.Manifest.Format < firstFormat || b.Manifest.Format > Format {
		return fmt.Errorf("%w of this version: its format is %d, this program reads %d to %d", ErrNotBundle,
			b.Manifest.Format, firstFormat, Format)
	}
	listed := map[string]File{}
	for _, f := range b.Manifest.Files {
		listed[f.Name] = f
	}
	total := uint64(0)
	for _, f := range b.zip.File {
		want, ok := listed[f.Name]
		switch {
		case f.Name == manifestFile:
		case !ok:
			return fmt.Errorf("%w: %q is not in its manifest", ErrNotBundle, f.Name)
		case f.UncompressedSize64 != uint64(max(want.Size, 0)):
			return fmt.Errorf("%w: %s has %d bytes, its manifest says %d", ErrNotBundle, f.Name, f.UncompressedSize64,
				want.Size)
		}
		delete(listed, f.Name)
		if total += f.UncompressedSize64; total > maxUnpacked {
			return fmt.Errorf("%w: it would unpack to more than %d GB", ErrNotBundle, maxUnpacked>>30)
		}
	}
	for name := range listed {
		return fmt.Errorf("%w: %s is missing", ErrNotBundle, name)
	}
	return nil
}

// Verify reads everything that was not read yet and compares it with the manifest, on all cores.
func (b *Bundle) Verify() error {
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range b.Manifest.Files {
		if _, done := b.checked.Load(f.Name); done {
			continue
		}
		work.Go(func() error {
			r, err := b.zip.Open(f.Name)
			if err != nil {
				return fmt.Errorf("%w: %s: %w", ErrNotBundle, f.Name, err)
			}
			sum := sha256.New()
			_, err = io.Copy(sum, r)
			if err = errors.Join(err, r.Close()); err != nil {
				return fmt.Errorf("%w: %s: %w", ErrNotBundle, f.Name, err)
			}
			return b.compare(f, sum)
		})
	}
	return work.Wait()
}

// Status returns what ran when the bundle was made, nil when nothing did.
func (b *Bundle) Status() (*operator.Status, error) {
	if !b.has(statusFile) {
		return nil, nil //nolint:nilnil // nothing ran, which is no error
	}
	text, err := b.read(statusFile, maxStatus)
	if err != nil {
		return nil, err
	}
	status := &operator.Status{}
	if err := json.Unmarshal(text, status); err != nil {
		return nil, fmt.Errorf("%w: its %s: %w", ErrNotBundle, statusFile, err)
	}
	return status, nil
}

// Consoles returns what guests wrote, by their ids.
func (b *Bundle) Consoles() (map[string]string, error) {
	out := map[string]string{}
	for _, f := range b.guestFiles(consoleFile) {
		text, err := b.read(f.Name, mostOfLog)
		if err != nil {
			return nil, err
		}
		out[guestOf(f.Name)] = string(text)
	}
	return out, nil
}

// guestFiles are the files of guests whose names end so.
func (b *Bundle) guestFiles(suffix string) (files []File) {
	for _, f := range b.Manifest.Files {
		if strings.HasPrefix(f.Name, guestsFolder+"/") && strings.HasSuffix(f.Name, suffix) {
			files = append(files, f)
		}
	}
	return files
}

// guestOf is whose a guest's file is.
func guestOf(name string) string { return path.Base(path.Dir(name)) }

// end returns at most the last limit bytes of a file, and how many are before them.
func (b *Bundle) end(name string, limit int64) (text string, left int64, err error) {
	r, err := b.zip.Open(name)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %s: %w", ErrNotBundle, name, err)
	}
	defer func() { _ = r.Close() }()
	info, err := r.Stat()
	if err != nil {
		return "", 0, fmt.Errorf("%w: %s: %w", ErrNotBundle, name, err)
	}
	left = max(0, info.Size()-limit)
	if _, err = io.CopyN(io.Discard, r, left); err == nil {
		var tail []byte
		tail, err = io.ReadAll(io.LimitReader(r, limit))
		text = string(tail)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%w: %s: %w", ErrNotBundle, name, err)
	}
	return text, left, nil
}

func (b *Bundle) has(name string) bool {
	for _, f := range b.Manifest.Files {
		if f.Name == name {
			return true
		}
	}
	return false
}

// read returns a file of at most limit bytes.
func (b *Bundle) read(name string, limit int64) ([]byte, error) {
	r, err := b.zip.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNotBundle, name, err)
	}
	defer func() { _ = r.Close() }()
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNotBundle, name, err)
	}
	return text, nil
}
