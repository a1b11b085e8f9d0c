package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/node/vnet"
)

const (
	lengthSize = 4
	maxFrame   = 65550 // as vnet's
)

// errFull means that a frame was lost because too many wait.
var errFull = errors.New("too many frames wait")

// wire is the node's end of a card's connection. Like the socket of a real machine it carries frames with their length
// before each; a node that knows of it (vnet.Framer) exchanges frames by calls instead, without buffers and goroutines
// of the port's own.
type wire struct {
	nic  *nic
	done chan struct{}

	inFlight [2]atomic.Int64 // bytes on their way to the guest, and to the node

	busy sync.Mutex // held while the node takes a frame

	mu      sync.Mutex
	readers *sync.Cond
	closed  bool
	receive func(frame []byte)
	unread  []byte // what Read gives next
	partial []byte // the beginning of a frame that was written in parts
}

var (
	_ net.Conn    = (*wire)(nil)
	_ vnet.Framer = (*wire)(nil)
)

func newWire(c *nic) *wire {
	w := &wire{nic: c, done: make(chan struct{})}
	w.readers = sync.NewCond(&w.mu)
	return w
}

// put sends a frame on its way.
func (w *wire) put(toNode bool, frame *[]byte) error {
	flight := w.flight(toNode)
	if flight.Add(int64(len(*frame))) > maxInFlight {
		flight.Add(-int64(len(*frame)))
		return errFull
	}
	w.nic.network.pump.put(parcel{wire: w, toNode: toNode, frame: frame})
	return nil
}

func (w *wire) flight(toNode bool) *atomic.Int64 {
	if toNode {
		return &w.inFlight[1]
	}
	return &w.inFlight[0]
}

// arrive is called by the pump.
func (w *wire) arrive(one parcel) {
	w.flight(one.toNode).Add(-int64(len(*one.frame)))
	if one.toNode {
		w.toNode(*one.frame)
		return
	}
	if w.open() {
		w.nic.receive(w, *one.frame)
	}
}

func (w *wire) open() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.closed
}

func (w *wire) toNode(frame []byte) {
	w.busy.Lock()
	defer w.busy.Unlock()
	w.mu.Lock()
	receive := w.receive
	switch {
	case w.closed:
		receive = nil
	case receive == nil && len(w.unread) < maxInFlight:
		w.unread = binary.BigEndian.AppendUint32(w.unread, uint32(len(frame)))
		w.unread = append(w.unread, frame...)
		w.readers.Broadcast()
	}
	w.mu.Unlock()
	if receive != nil {
		receive(frame)
	}
}

// Frames implements vnet.Framer.
func (w *wire) Frames(receive func(frame []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.receive = receive
}

// Send implements vnet.Framer.
func (w *wire) Send(frame []byte) error {
	if !w.open() {
		return net.ErrClosed
	}
	b := w.nic.network.pump.buffer()
	*b = append(*b, frame...)
	return w.put(false, b)
}

// Done implements vnet.Framer.
func (w *wire) Done() <-chan struct{} { return w.done }

// Close ends the connection. When it returns, no frame is being given to the node any more.
func (w *wire) Close() error {
	w.shut()
	w.busy.Lock()
	defer w.busy.Unlock()
	w.nic.unplug(w)
	return nil
}

// shut is Close for the guest's side, which does not wait for the node.
func (w *wire) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.done)
		w.readers.Broadcast()
	}
}

// Read gives the bytes of the guest's frames.
func (w *wire) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.unread) == 0 {
		if w.closed {
			return 0, io.EOF
		}
		w.readers.Wait()
	}
	n := copy(p, w.unread)
	if w.unread = w.unread[n:]; len(w.unread) == 0 {
		w.unread = nil
	}
	return n, nil
}

// Write takes the bytes of frames for the guest, in whatever pieces.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return 0, net.ErrClosed
	}
	rest := append(w.partial, p...)
	w.partial = nil
	var frames [][]byte
	for len(rest) >= lengthSize {
		size := int(binary.BigEndian.Uint32(rest))
		if size > maxFrame {
			w.mu.Unlock()
			return 0, fmt.Errorf("write to network card: frame of %d bytes, at most %d", size, maxFrame)
		}
		if len(rest) < lengthSize+size {
			break
		}
		frames = append(frames, rest[lengthSize:lengthSize+size])
		rest = rest[lengthSize+size:]
	}
	if len(rest) > 0 {
		w.partial = append([]byte(nil), rest...)
	}
	w.mu.Unlock()
	for _, frame := range frames {
		_ = w.Send(frame) // lost, as on a wire
	}
	return len(p), nil
}

// LocalAddr implements net.Conn.
func (w *wire) LocalAddr() net.Addr { return wireAddr{} }

// RemoteAddr implements net.Conn.
func (w *wire) RemoteAddr() net.Addr { return wireAddr{} }

// SetDeadline is not supported: Close ends what waits.
func (w *wire) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline is not supported.
func (w *wire) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline is not supported, and not needed: Write never waits.
func (w *wire) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

type wireAddr struct{}

func (wireAddr) Network() string { return "wire" }
func (wireAddr) String() string  { return "simulated network card" }
