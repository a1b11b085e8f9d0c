package twin

import (
	"fmt"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/node"
)

// Topology is a set of clouds and the nodes of each, as data.
type Topology struct {
	// Clouds is how many there are; 0 means one. They know nothing of each other.
	Clouds int
	// Nodes is how many each has; 0 means one. NoNodes leaves them out.
	Nodes   int
	NoNodes bool
	// Options are those of Start, for every cloud.
	Options []Option
}

// Validate reports what cannot be.
func (top Topology) Validate() error {
	if top.Clouds < 0 || top.Nodes < 0 || top.Clouds > 16 || top.Nodes > 64 {
		return fmt.Errorf("topology: %d clouds of %d nodes: expected at most 16 of 64", top.Clouds, top.Nodes)
	}
	if top.NoNodes && top.Nodes > 0 {
		return fmt.Errorf("topology: NoNodes and %d nodes exclude each other", top.Nodes)
	}
	return nil
}

// System is what a topology became.
type System struct {
	Clouds []*Twin
	// Nodes are those beside each cloud's first, in the order of the clouds.
	Nodes [][]*Node
}

// Build starts all of it, for the suite or the spec, and ends it after that.
func (top Topology) Build() *System {
	ginkgo.GinkgoHelper()
	if err := top.Validate(); err != nil {
		ginkgo.Fail(err.Error())
	}
	s := &System{}
	for range max(1, top.Clouds) {
		cloud := StartCloud(top.Options...)
		var more []*Node
		if !top.NoNodes {
			cloud.StartNode()
			for range top.Nodes - 1 {
				more = append(more, cloud.AddNode("further"))
			}
		}
		s.Clouds, s.Nodes = append(s.Clouds, cloud), append(s.Nodes, more)
	}
	return s
}

// StartClass is how guests come to life, as far as it decides how long a spec has to wait for them.
type StartClass int

const (
	// Instant is a simulated guest's start.
	Instant StartClass = iota
	// Copied is the start of a template's copy, which may have to boot when there is none.
	Copied
	// Booted is a start from the kernel on.
	Booted
)

// ClassOf is the class of a kind of guests.
func ClassOf(mode node.GuestMode) StartClass {
	switch mode {
	case node.GuestsSim:
		return Instant
	case node.GuestsFork:
		return Copied
	default:
		return Booted
	}
}

// Timeout is how long guests of the class may take from launch to serving, with a queue of others before them. It
// bounds how long a failure takes, not how fast anything is. Guests that boot take three times as long where the
// processor is emulated, and so may copies, which boot when their template cannot be used.
func (c StartClass) Timeout() time.Duration { return c.timeout(scale) }

// timeout is Timeout where real guests take scale times as long, which is only asked when it matters.
func (c StartClass) timeout(scale func() time.Duration) time.Duration {
	if c == Instant {
		return quietStart
	}
	return quietStart * scale()
}
