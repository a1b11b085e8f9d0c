package iam

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ownedFile is what the system says of a file of a user.
type ownedFile struct {
	mode fs.FileMode
	uid  int
}

func (ownedFile) Name() string        { return "root.key" }
func (ownedFile) Size() int64         { return rootKeySize }
func (f ownedFile) Mode() fs.FileMode { return f.mode }
func (ownedFile) ModTime() time.Time  { return time.Time{} }
func (ownedFile) IsDir() bool         { return false }
func (f ownedFile) Sys() any {
	return &syscall.Stat_t{Uid: uint32(f.uid)}
}

func TestRootKeyFileOwnerAndMode(t *testing.T) {
	own, other := os.Geteuid(), os.Geteuid()+1
	tests := []struct {
		name string
		file ownedFile
		says string
	}{
		{"own", ownedFile{0o600, own}, ""},
		{"own, to read only", ownedFile{0o400, own}, ""},
		{"somebody else's", ownedFile{0o600, other}, "belongs to user"},
		{"open to a group", ownedFile{0o640, own}, "has mode 0640"},
		{"open to all to write", ownedFile{0o602, own}, "has mode 0602"},
		{"executable", ownedFile{0o700, own}, "has mode 0700"},
		{"with set-user-id", ownedFile{0o600 | fs.ModeSetuid, own}, "want 0600 or 0400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkRootKeyFile("/root.key", tt.file)
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want one that says %q", err, tt.says)
			}
			if err != nil && !errors.Is(err, ErrRootKeyMode) {
				t.Errorf("%v is not ErrRootKeyMode", err)
			}
		})
	}
}
