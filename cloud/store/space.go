package store

import (
	"errors"
	"fmt"
	"syscall"
)

// reserve is the room that must be left on the disk for a write to begin, in bytes. etcd ends its process when it
// cannot write, so writing has to stop before that: a new segment of etcd's log takes 64 MB, the database grows beside
// it.
const reserve = 80 << 20

// roomIn returns ErrFull when the file system of dir has less than reserve left.
func roomIn(dir string) error {
	var fs syscall.Statfs_t
	// A file system that does not say, or has no bounds, is taken to have room.
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Blocks == 0 || fs.Bsize <= 0 {
		return nil //nolint:nilerr // etcd itself finds out
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < reserve {
		return fmt.Errorf("%w: the disk of %s has %d MB left, and %d MB are needed", ErrFull, dir, free>>20, reserve>>20)
	}
	return nil
}

// writable refuses a write that there is no room for.
func (s *Store) writable() error {
	if s.room == nil {
		return nil
	}
	return s.room()
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
