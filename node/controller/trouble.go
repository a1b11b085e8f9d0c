package controller

import (
	"bytes"
	"context"
	"encoding/base64"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// Trouble is what tests have go wrong: it is asked where something may (node/fault). Its methods may be called from any
// goroutine.
type Trouble interface {
	// GuestBegins makes an instance known before its machine starts, or when it was found, and GuestEnds forgets it.
	GuestBegins(in *nodelink.Instance)
	GuestEnds(id string)
	// GuestRuns tells that an instance's machine was started.
	GuestRuns(ctx context.Context, id string)
	// Now is the node's time.
	Now() time.Time
	// Gate returns when the node may go on, or with ctx's error.
	Gate(ctx context.Context) error
	// Disk says why a file cannot be written; nil means that it can.
	Disk() error
	// BootTime is what an instance's medium is to say that the time is, and WithoutEntropy that it is to have none.
	BootTime(id string) time.Time
	WithoutEntropy(id string) bool
	// MediumWritten is told of an instance's new medium before any guest reads it, and may change what is in the file.
	MediumWritten(ctx context.Context, id, path string)
	// DriveEmpty says that no medium stays in an instance's drive: then none is put in, so that its guest cannot read it
	// before it falls out.
	DriveEmpty(id string) bool
	// MediumInserted is told that it is in the drive.
	MediumInserted(ctx context.Context, id string)
}

// noTrouble is how nodes are when nobody tests them.
type noTrouble struct{}

func (noTrouble) GuestBegins(*nodelink.Instance)                {}
func (noTrouble) GuestEnds(string)                              {}
func (noTrouble) GuestRuns(context.Context, string)             {}
func (noTrouble) Now() time.Time                                { return time.Now() }
func (noTrouble) Gate(context.Context) error                    { return nil }
func (noTrouble) Disk() error                                   { return nil }
func (noTrouble) BootTime(string) time.Time                     { return time.Now() }
func (noTrouble) WithoutEntropy(string) bool                    { return false }
func (noTrouble) MediumWritten(context.Context, string, string) {}
func (noTrouble) DriveEmpty(string) bool                        { return false }
func (noTrouble) MediumInserted(context.Context, string)        {}

// dropEntropy makes a medium one that brings no entropy, which keydelivery itself would not write.
func dropEntropy(files map[string][]byte, entropy []byte) {
	text := []byte(base64.StdEncoding.EncodeToString(entropy))
	defer clear(text)
	before := files[keydelivery.BootFile]
	files[keydelivery.BootFile] = bytes.Replace(before, text, nil, 1)
	clear(before)
}
