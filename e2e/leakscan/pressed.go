package leakscan

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// File looks at one file; holes are passed over. In one that is compressed (.zst), as what a journal puts aside, it
// looks at what was compressed too.
func (s *Scanner) File(path string) ([]Finding, error) {
	list, err := s.bytesOf(path)
	if err != nil || filepath.Ext(path) != ".zst" {
		return list, err
	}
	more, err := s.pressed(path)
	return append(list, more...), err
}

func (s *Scanner) pressed(path string) ([]Finding, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	r, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", path, err)
	}
	defer r.Close()
	list, err := s.Reader(path+", decompressed", 0, r)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, zstd.ErrMagicMismatch) {
		return list, nil // it is no such file, or one that is being written; its bytes were looked at
	}
	return list, err
}
