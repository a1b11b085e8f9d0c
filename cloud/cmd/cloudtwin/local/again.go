package local

import (
	"context"
	"errors"
)

// CloseAndKeep is Close that leaves state and guests for the next Start, as Config.Keep has it.
func (t *Twin) CloseAndKeep() error {
	t.cfg.Keep = true
	return t.Close()
}

// errKilled means that a node which is to end or to start has been, already.
var errKilled = errors.New("the node is down already, or up")

// Kill ends the node as a killed process ends: its guests go on if they are processes of their own, and its media stay
// where they are. Revive starts it again.
func (n *Node) Kill() error {
	n.mu.Lock()
	inner, driver := n.node, n.driver
	if n.killed || n.life.Err() != nil {
		n.mu.Unlock()
		return errKilled
	}
	n.killed = true
	n.mu.Unlock()
	return errors.Join(inner.Abandon(), driver.Close())
}

// Revive starts a node again that Kill ended.
func (n *Node) Revive(ctx context.Context) error {
	n.mu.Lock()
	killed := n.killed
	n.mu.Unlock()
	if !killed || n.life.Err() != nil {
		return errKilled
	}
	return n.start(ctx)
}
