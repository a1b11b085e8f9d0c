package hypervisor

import (
	"context"
	"net"
)

// Dialer is the ability of drivers whose machines live in the node's own process: the virtual network reaches their
// cards without a socket of the host.
type Dialer interface {
	// DialNIC connects to the card of a machine. The connection carries the same bytes as Spec.NIC.Socket would, one
	// frame with its length before it after the other, and a machine has one at a time: a new one ends that before.
	// ErrNotFound when there is no such machine, ErrNotRunning when it has ended or has no card.
	DialNIC(ctx context.Context, id string) (net.Conn, error)
}
