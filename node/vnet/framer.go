package vnet

import (
	"context"
	"errors"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Framer is what the connection of PortConfig.Dial may also be, for a guest in this process: frames are handed over
// one by one, so that a port that is idle keeps no buffers and nobody waits for its two directions.
type Framer interface {
	io.Closer
	// Frames has every frame that the guest sends given to receive, one at a time, until Close has returned. A frame is
	// receive's, also to write to, until it returns.
	Frames(receive func(frame []byte))
	// Send gives the guest a copy of a frame. It never waits: an error means that the frame is lost.
	Send(frame []byte) error
	// Done is closed when the connection has ended.
	Done() <-chan struct{}
}

var errFramerEnded = errors.New("the guest closed the connection")

// converseFrames is converse for a Framer.
func (p *port) converseFrames(ctx context.Context, f Framer) error {
	p.out.open(f)
	p.setConnected(true)
	f.Frames(p.receiveFrame)
	err := errFramerEnded
	select {
	case <-f.Done():
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.setConnected(false)
	_ = f.Close()
	p.out.shut()
	return err
}

func (p *port) receiveFrame(frame []byte) {
	if len(frame) > etherSize+p.net.cfg.MTU {
		p.counters.received(len(frame))
		p.drop(dropOversize)
		return
	}
	p.ingest(frame)
}

// sendDirect sends a packet, whose reference it takes over, without a queue.
func (p *port) sendDirect(f Framer, pkt *stack.PacketBuffer) {
	lent, _ := frameBuffers.Get().(*[]byte)
	*lent = p.appendFrame((*lent)[:0], pkt)
	pkt.DecRef()
	if f.Send(*lent) != nil {
		p.counters.drop(dropQueueFull)
	}
	frameBuffers.Put(lent)
}
