package vnet

import (
	"container/heap"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Fate decides what becomes of a frame of so many bytes, to the guest or from it: a copy of it arrives after each of
// these times, zero meaning at once, and none means that it is lost. It is called for one frame at a time of each
// direction, from any goroutine, and must not wait.
type Fate func(toGuest bool, bytes int) (copies []time.Duration)

// maxLate bounds what a port's impaired wire holds back, in frames; more are lost.
const maxLate = 4096

// Impair gives an instance's wire a fate, also when the instance is attached later; nil makes it perfect again. What
// was held back until then still arrives.
func (n *Network) Impair(instanceID string, fate Fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if fate == nil {
		delete(n.fates, instanceID)
	} else {
		if n.fates == nil {
			n.fates = map[string]Fate{}
		}
		n.fates[instanceID] = fate
	}
	if p, ok := n.ports[instanceID]; ok {
		p.impair(fate)
	}
}

func (p *port) impair(fate Fate) {
	if fate == nil {
		p.fate.Store(nil)
		return
	}
	p.fate.Store(&fate)
}

// ingest takes a frame off the guest's wire, which may be impaired.
func (p *port) ingest(frame []byte) {
	fate := p.fate.Load()
	if fate == nil {
		p.arrive(frame)
		return
	}
	copies := (*fate)(false, len(frame))
	if len(copies) == 0 {
		p.counters.drop(dropImpaired)
		return
	}
	for _, after := range copies {
		own := append([]byte(nil), frame...) // its buffer is used again, and routing changes it
		p.late.after(p, after, func() { p.arrive(own) }, nil)
	}
}

// emit puts a packet, whose reference it takes over, on the wire to the guest, which may be impaired.
func (p *port) emit(pkt *stack.PacketBuffer) {
	fate := p.fate.Load()
	if fate == nil {
		p.out.put(pkt, p)
		return
	}
	copies := (*fate)(true, pkt.Size()+etherSize)
	if len(copies) == 0 {
		p.counters.drop(dropImpaired)
	}
	for _, after := range copies {
		pkt.IncRef()
		p.late.after(p, after, func() { p.out.put(pkt, p) }, pkt.DecRef)
	}
	pkt.DecRef()
}

// late holds frames back. Those that are due at the same time keep their order.
type late struct {
	mu       sync.Mutex
	waiting  lateQueue
	order    uint64
	timer    *time.Timer
	moving   bool // somebody lets out what is due
	detached bool
}

type lateFrame struct {
	due     time.Time
	order   uint64
	deliver func()
	drop    func() // instead of deliver; nil when there is nothing to let go of
}

// after delivers a frame after a time.
func (l *late) after(p *port, wait time.Duration, deliver, drop func()) {
	l.mu.Lock()
	if l.detached || len(l.waiting) >= maxLate {
		l.mu.Unlock()
		p.counters.drop(dropImpaired)
		if drop != nil {
			drop()
		}
		return
	}
	l.order++
	heap.Push(&l.waiting, lateFrame{due: time.Now().Add(wait), order: l.order, deliver: deliver, drop: drop})
	l.mu.Unlock()
	l.move()
}

// move delivers what is due, in order, and sets the timer for the rest.
func (l *late) move() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moving {
		return // whoever does it looks again
	}
	l.moving = true
	defer func() { l.moving = false }()
	for len(l.waiting) > 0 && !l.detached {
		pause := time.Until(l.waiting[0].due)
		if pause > 0 {
			if l.timer == nil {
				l.timer = time.AfterFunc(pause, l.move)
			} else {
				l.timer.Reset(pause)
			}
			return
		}
		next, _ := heap.Pop(&l.waiting).(lateFrame)
		l.mu.Unlock()
		next.deliver()
		l.mu.Lock()
	}
}

// end drops what is held back.
func (l *late) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.detached = true
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, f := range l.waiting {
		if f.drop != nil {
			f.drop()
		}
	}
	l.waiting = nil
}

type lateQueue []lateFrame

func (q lateQueue) Len() int { return len(q) }
func (q lateQueue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].order < q[j].order
	}
	return q[i].due.Before(q[j].due)
}
func (q lateQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *lateQueue) Push(x any)   { *q = append(*q, x.(lateFrame)) } //nolint:forcetypeassert // nothing else is in it
func (q *lateQueue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = lateFrame{}
	*q = (*q)[:len(*q)-1]
	return last
}
