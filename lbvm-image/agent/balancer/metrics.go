package balancer

import (
	"sync"
	"time"
)

// Counts are what was carried in a span of time.
type Counts struct {
	// Requests carried to a backend, or connections for TCP and SSL listeners.
	Requests int64
	// Latency is the sum of the times from sending a request to a backend until its answer's headers came.
	Latency time.Duration
	// Timed is the number of requests whose latency is in Latency.
	Timed int64
	// Backend counts answers of backends by class: 2 for 2XX up to 5 for 5XX.
	Backend [6]int64
	// Own counts answers that the load balancer gave itself, by class: 4 and 5.
	Own [6]int64
}

// Zero tells whether nothing was carried.
func (c Counts) Zero() bool { return c == Counts{} }

func (c *Counts) add(other Counts) {
	c.Requests += other.Requests
	c.Latency += other.Latency
	c.Timed += other.Timed
	for i := range c.Backend {
		c.Backend[i] += other.Backend[i]
		c.Own[i] += other.Own[i]
	}
}

// Metrics collects counts from all listeners. The zero value is ready.
type Metrics struct {
	mu     sync.Mutex
	counts Counts
}

// Take returns what was counted since the last call of Take and begins anew.
func (m *Metrics) Take() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.counts
	m.counts = Counts{}
	return taken
}

// Return adds counts that were taken but not delivered.
func (m *Metrics) Return(c Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.add(c)
}

func (m *Metrics) request() { m.Return(Counts{Requests: 1}) }

func (m *Metrics) answered(status int, latency time.Duration) {
	c := Counts{Latency: latency, Timed: 1}
	c.Backend[class(status)] = 1
	m.Return(c)
}

func (m *Metrics) own(status int) {
	c := Counts{}
	c.Own[class(status)] = 1
	m.Return(c)
}

func class(status int) int {
	return min(max(status/100, 0), 5)
}
