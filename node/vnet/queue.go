package vnet

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// maxQueued bounds what waits for a guest, in bytes. It is as much as a TCP connection keeps in flight, so a
	// guest that reads slowly loses nothing, and one that does not read costs no more than this.
	maxQueued = 4 << 20
	// queueOverhead is what a waiting packet costs beside its bytes.
	queueOverhead = 256
	writeBuffer   = 64 << 10
)

// writeBuffers lends a port its write buffer for as long as there is something to write: with many guests few write
// at a time.
var writeBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, writeBuffer+maxFrame+lengthSize)
	return &b
}}

// frameBuffers lends room for one frame.
var frameBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, etherSize+defaultMTU)
	return &b
}}

// queue holds the packets that wait for a guest. It is open while the guest is connected; otherwise packets are lost.
type queue struct {
	wake chan struct{} // capacity 1: something changed

	mu     sync.Mutex
	opened bool
	direct Framer // takes packets at once, so that none wait here
	pkts   []*stack.PacketBuffer
	bytes  int
}

func (q *queue) init() { q.wake = make(chan struct{}, 1) }

// put queues a packet, whose reference it takes over.
func (q *queue) put(pkt *stack.PacketBuffer, p *port) {
	size := pkt.Size() + queueOverhead
	why := dropNone
	q.mu.Lock()
	direct := q.direct
	switch {
	case !q.opened:
		why = dropDisconnected
	case direct != nil:
	case q.bytes+size > maxQueued:
		why = dropQueueFull
	default:
		q.pkts = append(q.pkts, pkt)
		q.bytes += size
	}
	first := len(q.pkts) == 1
	q.mu.Unlock()
	if why == dropNone && direct != nil {
		p.sendDirect(direct, pkt)
		return
	}
	if why != dropNone {
		pkt.DecRef()
		p.counters.drop(why)
		return
	}
	if first {
		q.signal()
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// open lets packets in. With direct they do not wait for drainTo.
func (q *queue) open(direct Framer) {
	q.mu.Lock()
	q.opened, q.direct = true, direct
	q.mu.Unlock()
}

// shut drops what waits and ends drainTo.
func (q *queue) shut() {
	q.mu.Lock()
	q.opened, q.direct = false, nil
	pkts := q.pkts
	q.pkts, q.bytes = nil, 0
	q.mu.Unlock()
	for _, pkt := range pkts {
		pkt.DecRef()
	}
	q.signal()
}

// take returns all that waits, or false when the queue is shut. spare is an empty slice to go on with.
func (q *queue) take(spare []*stack.PacketBuffer) ([]*stack.PacketBuffer, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pkts := q.pkts
	q.pkts, q.bytes = spare, 0
	return pkts, q.opened
}

// drainTo writes packets as frames until the queue is shut or w fails. Frames that wait together are written together.
func (q *queue) drainTo(w io.Writer, p *port) error {
	var spare []*stack.PacketBuffer
	for {
		pkts, open := q.take(spare[:0])
		if !open {
			return nil
		}
		if len(pkts) == 0 {
			spare = pkts
			<-q.wake
			continue
		}
		if err := p.writeFrames(w, pkts); err != nil {
			return fmt.Errorf("write frames: %w", err)
		}
		clear(pkts)
		spare = pkts
	}
}

// writeFrames writes all packets, whose references it takes over, in as few writes as fit.
func (p *port) writeFrames(w io.Writer, pkts []*stack.PacketBuffer) error {
	lent := writeBuffers.Get().(*[]byte)
	defer writeBuffers.Put(lent)
	b := (*lent)[:0]
	var err error
	for _, pkt := range pkts {
		if err == nil {
			b = binary.BigEndian.AppendUint32(b, uint32(etherSize+pkt.Size()))
			b = p.appendFrame(b, pkt)
			if len(b) >= writeBuffer {
				_, err = w.Write(b)
				b = b[:0]
			}
		}
		pkt.DecRef()
	}
	if err == nil && len(b) > 0 {
		_, err = w.Write(b)
	}
	return err
}

// appendFrame appends Ethernet header and packet.
func (p *port) appendFrame(b []byte, pkt *stack.PacketBuffer) []byte {
	start := len(b)
	b = append(b, p.mac[:]...)
	b = append(b, p.net.mac...)
	b = binary.BigEndian.AppendUint16(b, uint16(pkt.NetworkProtocolNumber))
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		s := v.AsSlice()
		n := min(skip, len(s))
		skip -= n
		b = append(b, s[n:]...)
	}
	p.counters.sent(len(b) - start)
	if tap := p.tap.Load(); tap != nil {
		tap.write(b[start:])
	}
	return b
}

// send queues a packet that the port itself made.
func (p *port) send(kind uint16, b []byte) {
	p.emit(newPacket(tcpip.NetworkProtocolNumber(kind), b))
}
