package nodelink

// The kinds of events that a node tells of its guests. What a guest says of itself comes as milestones.
const (
	// EventMachine is a change of a machine's state: state, reason (the hypervisor's own word).
	EventMachine = "machine.state"
	// EventQMP is an event of a guest's QEMU: event, and its data where it is short.
	EventQMP = "qmp.event"
	// EventFrames counts a guest's frames since it was plugged in: in, out, inBytes, outBytes, and what was dropped.
	EventFrames = "frames.counted"
	// EventMetadata is a request to the metadata service: method, path, status. The answer is never told.
	EventMetadata = "metadata.request"
	// EventTLS is what a guest's listener had of TLS handshakes: listener, begun, failed, and the reason of the last
	// failure, all of them counted; or one of them, of which a few are told: listener, result (ok or failed), version,
	// cipher, sni, resumed, or the failure's reason.
	EventTLS = "tls.handshake"
	// EventsLost says how many events of a guest its node had no room for: count.
	EventsLost = "node.events_lost"
)

// MaxEvents is how many events one report may hold.
const MaxEvents = 4096

// IsEventKind says whether an event of this kind is a node's to tell.
func IsEventKind(kind string) bool {
	switch kind {
	case EventMachine, EventQMP, EventFrames, EventMetadata, EventTLS, EventsLost:
		return true
	}
	return false
}
