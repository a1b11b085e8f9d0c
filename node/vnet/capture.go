package vnet

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// capture writes a port's frames as a pcap file.
type capture struct {
	mu   sync.Mutex
	out  *pcapgo.Writer // nil when the capture ended
	port *port
	// headers takes the frames instead; it has a lock and an end of its own.
	headers *headers
}

// Capture writes every frame of an instance, both ways and those that get dropped too, to w in pcap's format until
// stop is called, the instance is detached, or w fails. After stop returned w is not used any more. A port has one
// capture at a time. w is called from the port's own goroutines, so a slow w slows down this guest alone.
func (n *Network) Capture(instanceID string, w io.Writer) (stop func(), err error) {
	p, err := n.port(instanceID)
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	out := pcapgo.NewWriterNanos(w)
	c := &capture{out: out, port: p}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !p.tap.CompareAndSwap(nil, c) {
		return nil, fmt.Errorf("capture %s: a capture is running", instanceID)
	}
	if err := out.WriteFileHeader(maxFrame, layers.LinkTypeEthernet); err != nil {
		p.tap.CompareAndSwap(c, nil)
		return nil, fmt.Errorf("capture %s: %w", instanceID, err)
	}
	return c.stop, nil
}

func (c *capture) stop() {
	c.port.tap.CompareAndSwap(c, nil)
	c.mu.Lock()
	c.out = nil
	c.mu.Unlock()
}

func (c *capture) write(frame []byte) {
	if c.headers != nil {
		c.headers.write(frame)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		return
	}
	info := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(frame), Length: len(frame)}
	if err := c.out.WritePacket(info, frame); err != nil {
		c.port.net.log.Warn("capture ended", "instance", c.port.id, "error", err)
		c.out = nil
		c.port.tap.CompareAndSwap(c, nil)
	}
}
