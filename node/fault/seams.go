package fault

import (
	"context"
	"fmt"
	"syscall"
	"time"

	plan "github.com/cloudtwin/cloudtwin/cloud/fault"
)

// Now is the node's time.
func (n *Node) Now() time.Time {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.ofLocked(plan.NodeClockSkew) {
		now = now.Add(f.Time("offset"))
	}
	return now
}

// Gate returns when the node is not frozen, or with ctx's error.
func (n *Node) Gate(ctx context.Context) error {
	n.mu.Lock()
	thawed := n.thawed
	n.mu.Unlock()
	select {
	case <-thawed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freezeLocked opens or closes the gate.
func (n *Node) freezeLocked() {
	frozen := len(n.ofLocked(plan.NodeFreeze)) > 0
	select {
	case <-n.thawed:
		if frozen {
			n.thawed = make(chan struct{})
		}
	default:
		if !frozen {
			close(n.thawed)
		}
	}
}

// Disk says why a file cannot be written.
func (n *Node) Disk() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.ofLocked(plan.NodeOutOfDisk) {
		return fmt.Errorf("%w (an injected fault, %s)", syscall.ENOSPC, f.ID)
	}
	return nil
}

// OutOfMemory says that the host has no memory for another guest.
func (n *Node) OutOfMemory() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ofLocked(plan.NodeOutOfMemory)) > 0
}
