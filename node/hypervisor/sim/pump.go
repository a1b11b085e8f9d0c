package sim

import "sync"

const (
	// maxInFlight bounds the frames that wait for one side of one wire, in bytes, as a socket's buffer would. More are
	// lost, as on a wire that is full; TCP sends them again.
	maxInFlight = 4 << 20
	// frameSize is what pooled frames have room for: those of the usual MTU.
	frameSize = 1600
)

// parcel is a frame on its way.
type parcel struct {
	wire   *wire
	toNode bool
	frame  *[]byte
}

// pump carries the frames of all of a driver's wires, both ways, in the order in which they came: one goroutine, where
// two a guest would wait most of the time. It also keeps the two stacks apart, of which each sends while it holds locks
// of its own.
type pump struct {
	wake   chan struct{} // capacity 1
	done   chan struct{}
	frames sync.Pool

	mu     sync.Mutex
	queue  []parcel
	closed bool
}

func newPump() *pump {
	p := &pump{wake: make(chan struct{}, 1), done: make(chan struct{})}
	p.frames.New = func() any {
		b := make([]byte, 0, frameSize)
		return &b
	}
	go p.run()
	return p
}

// buffer lends an empty frame.
func (p *pump) buffer() *[]byte {
	b, _ := p.frames.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

func (p *pump) put(one parcel) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.queue = append(p.queue, one)
	first := len(p.queue) == 1
	p.mu.Unlock()
	if first {
		p.signal()
	}
}

func (p *pump) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close ends the pump; what is on its way is lost.
func (p *pump) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.signal()
	<-p.done
}

func (p *pump) take(spare []parcel) (all []parcel, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, p.queue = p.queue, spare
	return all, p.closed
}

func (p *pump) run() {
	defer close(p.done)
	var spare []parcel
	for {
		all, closed := p.take(spare[:0])
		if closed {
			return
		}
		for _, one := range all {
			one.wire.arrive(one)
			if cap(*one.frame) == frameSize {
				p.frames.Put(one.frame)
			}
		}
		clear(all)
		spare = all
		if cap(spare) > 1024 {
			spare = nil // a burst is over; its room is not kept
		}
		if len(all) == 0 {
			<-p.wake
		}
	}
}
