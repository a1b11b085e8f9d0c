package bundle

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

// Write makes a bundle at path, mode 0600, in place of a file that is there. keys are the private keys of the state,
// which are searched for in everything that would go into it: when one is found the error is ErrSecret, wrapped, names
// the place, and nothing is written. The error is ErrNothing when the state folder has no evidence.
func Write(ctx context.Context, path string, src Source, keys []leakscan.Key) (_ Manifest, err error) {
	dir, err := os.MkdirTemp("", "cloudtwin-bundle-")
	if err != nil {
		return Manifest{}, fmt.Errorf("make a folder for the bundle's files: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &stage{dir: dir, src: src}
	if err := s.gather(ctx); err != nil {
		return Manifest{}, fmt.Errorf("gather the bundle's files: %w", err)
	}
	more, err := s.hostKeys(ctx)
	defer func() {
		for _, key := range more {
			key.Wipe()
		}
	}()
	if err != nil {
		return Manifest{}, err
	}
	if err := s.search(ctx, slices.Concat(keys, more)); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Format: Format, Made: time.Now().UTC(), State: string(src.State), Program: thisProgram(),
		Selected: src.Selection.Filters()}
	partial, err := os.CreateTemp(filepath.Dir(path), ".cloudtwin-bundle-")
	if err != nil {
		return Manifest{}, fmt.Errorf("write bundle: %w", err)
	}
	err = errors.Join(s.zip(partial, &m), partial.Close())
	if err == nil {
		err = os.Rename(partial.Name(), path)
	}
	if err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("write bundle: %w", err), os.Remove(partial.Name()))
	}
	return m, nil
}

// search looks for keys in everything that was gathered.
func (s *stage) search(ctx context.Context, keys []leakscan.Key) error {
	report, err := leakscan.Run{Keys: keys, Trees: []string{s.dir}}.Check(ctx)
	if err != nil {
		return fmt.Errorf("search the bundle's files for private keys: %w", err)
	}
	var errs []error
	for _, leak := range report.Leaks {
		if name, err := filepath.Rel(s.dir, leak.Place); err == nil {
			leak.Place = name
		}
		errs = append(errs, fmt.Errorf("%w: %s", ErrSecret, leak))
	}
	return errors.Join(errs...)
}

func (s *stage) zip(w io.Writer, m *Manifest) error {
	names, err := s.names()
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	for _, name := range names {
		file, err := s.add(z, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m.Files = append(m.Files, file)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	entry, err := z.Create(manifestFile)
	if err != nil {
		return err
	}
	if _, err := entry.Write(text); err != nil {
		return err
	}
	return z.Close()
}

func (s *stage) add(z *zip.Writer, name string) (File, error) {
	from, err := os.Open(filepath.Join(s.dir, filepath.FromSlash(name)))
	if err != nil {
		return File{}, err
	}
	defer func() { _ = from.Close() }()
	to, err := z.Create(name)
	if err != nil {
		return File{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), from)
	return File{Name: name, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}
