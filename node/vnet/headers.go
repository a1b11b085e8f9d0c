package vnet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// headerSegment bounds a file of frames' headers, in bytes; the one before it is kept under another name.
const headerSegment = 2 << 20

// headerDelay is how long a frame may wait for its way to the file.
const headerDelay = 500 * time.Millisecond

// headers is a bounded file of frames that were cut after their headers.
type headers struct {
	path  string
	limit int64

	mu    sync.Mutex
	file  *os.File
	buf   *bufio.Writer
	out   *pcapgo.Writer
	size  int64
	timer *time.Timer // set while frames wait
	err   error
}

// CaptureHeaders keeps the headers of an instance's latest frames in a pcap file at path (mode 0600) until stop is
// called: whole frames of ARP, DHCP and DNS, and no payload of anything else, so that no key, credential or user's
// word gets in. A file of 2 MB becomes OlderHeaders(path), and another is begun. Frames reach it
// within half a second; stop brings the rest. A disk that fails ends the capture, and stop says so.
func (n *Network) CaptureHeaders(instanceID, path string) (stop func() error, err error) {
	h := &headers{path: path, limit: headerSegment}
	if err := h.begin(); err != nil {
		return nil, fmt.Errorf("capture headers of %s: %w", instanceID, err)
	}
	p, err := n.port(instanceID)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("capture headers: %w", err), h.end())
	}
	c := &capture{port: p, headers: h}
	if !p.tap.CompareAndSwap(nil, c) {
		return nil, errors.Join(fmt.Errorf("capture headers of %s: a capture is running", instanceID), h.end())
	}
	return func() error {
		p.tap.CompareAndSwap(c, nil)
		return h.end()
	}, nil
}

// OlderHeaders is where the file of frames before those at path lies.
func OlderHeaders(path string) string { return strings.TrimSuffix(path, ".pcap") + ".1.pcap" }

// begin makes a new file.
func (h *headers) begin() error {
	f, err := os.OpenFile(h.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	h.file, h.size = f, 0
	h.buf = bufio.NewWriter(f)
	h.out = pcapgo.NewWriterNanos(h.buf)
	return h.out.WriteFileHeader(maxFrame, layers.LinkTypeEthernet)
}

// write adds a frame.
func (h *headers) write(frame []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil || h.err != nil {
		return
	}
	kept := frame[:headerLength(frame)]
	if h.size += int64(len(kept)) + recordHeader; h.size > h.limit {
		if h.err = h.turn(); h.err != nil {
			return
		}
	}
	h.err = h.out.WritePacket(
		gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(kept), Length: len(frame)}, kept)
	if h.timer == nil {
		h.timer = time.AfterFunc(headerDelay, h.flush)
	}
}

// recordHeader is what pcap puts before each frame, in bytes.
const recordHeader = 16

func (h *headers) turn() error {
	if err := errors.Join(h.buf.Flush(), h.file.Close(), os.Rename(h.path, OlderHeaders(h.path))); err != nil {
		return err
	}
	return h.begin()
}

func (h *headers) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = nil
	if h.file != nil && h.err == nil {
		h.err = h.buf.Flush()
	}
}

// end closes the file.
func (h *headers) end() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil {
		return nil
	}
	if h.timer != nil {
		h.timer.Stop()
	}
	err := errors.Join(h.err, h.buf.Flush(), h.file.Close())
	h.file = nil
	return err
}

// headerLength is how much of a frame is no payload. What cannot be read has nothing after Ethernet's header.
func headerLength(frame []byte) int {
	if len(frame) < etherSize {
		return len(frame)
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		return len(frame)
	case etherIPv4:
		return etherSize + ipHeaders(frame[etherSize:])
	}
	return etherSize
}

// ipHeaders is how much of an IPv4 packet is no payload.
func ipHeaders(ip []byte) int {
	const least = 20
	if len(ip) < least {
		return 0
	}
	own := int(ip[0]&0xf) * 4
	if own < least || own > len(ip) {
		return 0
	}
	if binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 { // a later fragment is all payload
		return own
	}
	return own + transportHeader(ip[9], ip[own:])
}

// transportHeader is how much of what a packet carries is no payload.
func transportHeader(protocol byte, rest []byte) int {
	const (
		icmp, tcp, udp   = 1, 6, 17
		tcpLeast, others = 20, 8
	)
	switch {
	case protocol == tcp && len(rest) >= tcpLeast:
		return min(len(rest), max(tcpLeast, int(rest[12]>>4)*4))
	case protocol != icmp && protocol != udp || len(rest) < others:
		return 0
	case protocol == udp && (plainUDP(binary.BigEndian.Uint16(rest)) || plainUDP(binary.BigEndian.Uint16(rest[2:]))):
		return len(rest)
	}
	return others // of ICMP not what it answers, which may hold anything
}

// plainUDP says whether a port is of DNS or DHCP, which carry no secrets.
func plainUDP(port uint16) bool { return port == 53 || port == 67 || port == 68 }
