package ec2

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
)

// State is where an instance is in its life. It only ever goes forward.
type State string

// The states of an instance, with EC2's names. There is no stop and start here: an instance whose guest ended is
// terminated, and its StateReason says why.
const (
	Pending      State = "pending"
	Running      State = "running"
	ShuttingDown State = "shutting-down"
	Terminated   State = "terminated"
)

// Code returns EC2's number for the state.
func (s State) Code() int64 {
	switch s {
	case Pending:
		return 0
	case Running:
		return 16
	case ShuttingDown:
		return 32
	case Terminated:
		return 48
	default:
		return 255
	}
}

// live says whether the node is to run the instance.
func (s State) live() bool { return s == Pending || s == Running }

// The codes of a StateReason, as EC2 has them.
const (
	reasonUser     = "Client.UserInitiatedShutdown"
	reasonInstance = "Client.InstanceInitiatedShutdown"
	reasonServer   = "Server.InternalError"
)

// StateReason says why an instance left the running state.
type StateReason struct {
	Code    string
	Message string
}

// Instance is the record of one instance. Values handed out share maps and slices with the service: read only.
type Instance struct {
	ID            string
	AccountID     string
	System        bool // launched by a system account
	ReservationID string
	LaunchIndex   int
	LaunchTime    time.Time
	ClientToken   string

	ImageName    string
	ImageID      string
	ImageDigest  string
	InstanceType string
	MemoryMB     int
	VCPUs        int

	State        State
	Reason       StateReason
	TerminatedAt time.Time

	NodeID      string
	PrivateIP   string // IPv4; empty once terminated
	PublicIP    string `json:",omitempty"` // IPv4 of the node's host; for an instance with a key pair alone
	MAC         string
	ConsolePath string // on the node's host
	UserData    []byte // without the keyword's line
	// Credential waits for the guest to have read its medium, and is removed then.
	Credential *keydelivery.Credential `json:",omitempty"`
	// Identity tells the instance's LBCERTs; nil for an instance without one.
	Identity *Identity `json:",omitempty"`

	KeyName   string `json:",omitempty"` // of the key pair that it was launched with
	PublicKey string `json:",omitempty"` // of that; it stays when the pair is deleted

	ProfileARN  string
	ProfileID   string
	ProfileName string
	RoleName    string      // empty while the profile holds no role
	ProfileLink profileLink `json:",omitzero"`
	// ProfileAccountID is whose the profile is when it is not AccountID's.
	ProfileAccountID string `json:",omitempty"`
	ProfileGone      bool   `json:",omitempty"` // deleted since

	// OwnedFor is the account on whose behalf a service runs the instance, and to which it is accounted; empty means
	// AccountID.
	OwnedFor string `json:",omitempty"`
	// Hidden is set for what a service runs in an account of its users: they neither see it nor change it.
	Hidden bool `json:",omitempty"`

	Tags       map[string]string
	Exposures  []Exposure
	Metadata   MetadataOptions
	Milestones []Milestone

	// Trace is the step that the instance's life is a part of (W3C Trace Context): its launch, then the request that ends
	// it.
	Trace string `json:",omitempty"`

	// Reboots that users asked for so far.
	Reboots uint64 `json:",omitempty"`

	Version    uint64 // grows with every write
	Generation uint64 // grows with what the node is told
}

// Exposure makes a guest's port reachable on the loopback of its node's host.
type Exposure struct {
	HostAddress string // 127.x.y.z:port
	GuestPort   int
}

// MetadataOptions are what the instance's metadata service allows. The zero value is EC2's default.
type MetadataOptions struct {
	TokensRequired bool
	Disabled       bool
	HopLimit       int // 1 to 64; 0 means 1
	Tags           bool
}

// Milestone is a piece of evidence from the guest's console or from its node.
type Milestone struct {
	Stage      string
	Time       time.Time // when the node saw it
	Attributes map[string]string
}

// same says whether two milestones are one, told twice: a node tells all that it remembers whenever it connects.
// A guest's milestone carries the guest's own time (t), so the node's clock has no part in it.
func (m Milestone) same(o Milestone) bool {
	if m.Stage != o.Stage || !maps.Equal(m.Attributes, o.Attributes) {
		return false
	}
	_, guests := m.Attributes["t"]
	return guests || m.Time.Equal(o.Time)
}

// mergeMilestones adds to old what is new in told.
func mergeMilestones(old, told []Milestone) (merged, added []Milestone) {
	return nodelink.MergeMilestones(old, told, Milestone.same)
}

// hiddenFrom says whether the caller is not to know of the instance, though it is its account's.
func (i *Instance) hiddenFrom(caller authn.Caller) bool { return i.Hidden && !caller.System }

// Accounted is the account to which the instance's use is accounted.
func (i *Instance) Accounted() string { return cmp.Or(i.OwnedFor, i.AccountID) }

// addresses are those that the instance has.
func (i *Instance) addresses() []string {
	return slices.DeleteFunc([]string{i.PrivateIP, i.PublicIP}, func(a string) bool { return a == "" })
}

// need is what the instance reserves on its node.
func (i *Instance) need() placement.Need {
	return placement.Need{MemoryMB: i.MemoryMB, VCPUs: i.VCPUs, Image: i.ImageName, Digest: i.ImageDigest}
}

type addressRecord struct{ InstanceID string }

// tokenRecord remembers a client token, so that a repeated request is answered with the first one's instances.
type tokenRecord struct {
	Hash          []byte // of the request's parameters
	ReservationID string
	Created       time.Time
	// InstanceIDs are the instances of the first batch; all of them unless More is set.
	InstanceIDs []string
	More        bool
}

// newID returns prefix, a dash and 17 random hexadecimal digits.
func newID(prefix string) (string, error) {
	var b [9]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return prefix + "-" + hex.EncodeToString(b[:])[:17], nil
}
