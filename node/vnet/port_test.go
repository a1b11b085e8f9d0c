package vnet

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket/pcapgo"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// TestRedial is what happens when a guest's machine restarts, or its QEMU drops the connection.
func TestRedial(t *testing.T) {
	n := newNetwork(t, Config{})
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	g := newGuest(t, n, "i-a", "10.64.0.10")
	for range 3 {
		if got, err := g.get("http://169.254.169.254/"); err != nil || got != "i-a" {
			t.Fatalf("got %q, %v", got, err)
		}
		_ = (<-g.conns).Close()
	}
	if s, _ := n.Stats("i-a"); s.Connects < 3 {
		t.Errorf("%d connects", s.Connects)
	}
}

// TestSocketAppearsLate: the port is there before the machine is.
func TestSocketAppearsLate(t *testing.T) {
	n := newNetwork(t, Config{})
	socket := filepath.Join(t.TempDir(), "late.sock")
	ip := netip.MustParseAddr("10.64.0.10")
	cfg := PortConfig{InstanceID: "i-a", MAC: macOf(ip).String(), IP: ip, Socket: socket}
	if err := n.Attach(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if s, ok := n.Stats("i-a"); !ok || s.Connected {
		t.Errorf("stats %+v, %t", s, ok)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := &wire{t: t, listener: l, ip: ip, mac: macOf(ip)}
	w.accept()
	defer w.conn.Close()
	w.ping()
	// The machine ends and another listens at the same place.
	_ = l.Close()
	_ = w.conn.Close()
	_ = os.Remove(socket)
	if w.listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	defer w.listener.Close()
	w.accept()
	defer w.conn.Close()
	w.ping()
	if s, _ := n.Stats("i-a"); !s.Connected || s.Connects != 2 {
		t.Errorf("stats %+v", s)
	}
}

// TestDialWaitsForGuest: a guest that boots is asked until it knows its address, and only then connected with, so that
// the connection does not wait for a segment to be sent again.
func TestDialWaitsForGuest(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	_ = w.conn.Close() // the machine starts anew
	w.accept()
	go func() {
		if c, err := n.Dial(t.Context(), "i-a", 80); err == nil {
			_ = c.Close()
		}
	}()
	for range 3 {
		got := w.receive()
		a := header.ARP(got[etherSize:])
		if got[12] != 8 || got[13] != 6 || a.Op() != header.ARPRequest || [4]byte(a.ProtocolAddressTarget()) != w.ip.As4() {
			t.Fatalf("received % x before the guest is up", got)
		}
	}
	answer := header.ARP(arpRequest(w.mac, w.ip, gatewayIP))
	answer.SetOp(header.ARPReply)
	w.send(w.frame(etherARP, answer))
	for {
		got := w.receive()
		if got[12] == 8 && got[13] == 6 {
			continue // asked before it heard the answer
		}
		if seg := header.TCP(header.IPv4(got[etherSize:]).Payload()); seg.Flags() != header.TCPFlagSyn {
			t.Errorf("received %s", seg.Flags())
		}
		break
	}
	n.Detach("i-a")
}

// TestSlowGuest: a guest that reads nothing costs a bounded queue, and no other guest notices.
func TestSlowGuest(t *testing.T) {
	n := newNetwork(t, Config{})
	a, b, slow := attach(t, n, "i-a", "10.64.0.10"), attach(t, n, "i-b", "10.64.0.11"), attach(t, n, "i-s", "10.64.0.12")
	flood := a.ipFrame(a.ip, slow.ip, header.UDPProtocolNumber, 64, udpPayload(1, 2, make([]byte, 1400)))
	for range 2 * maxQueued / len(flood) {
		a.send(flood)
	}
	a.ping()
	a.send(a.ipFrame(a.ip, b.ip, header.ICMPv4ProtocolNumber, 64, echo()))
	b.receive()
	s, _ := n.Stats("i-s")
	if s.DroppedQueueFull == 0 {
		t.Error("nothing was dropped")
	}
	p, err := n.port("i-s")
	if err != nil {
		t.Fatal(err)
	}
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	if p.out.bytes > maxQueued {
		t.Errorf("%d bytes wait", p.out.bytes)
	}
}

func TestCapture(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	var file bytes.Buffer
	stop, err := n.Capture("i-a", &file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Capture("i-a", io.Discard); err == nil {
		t.Error("a second capture at the same time succeeds")
	}
	w.send(w.frame(etherIPv6, make([]byte, 40))) // dropped, but evidence
	w.ping()
	stop()
	stop()
	w.ping()
	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []uint16
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || info.CaptureLength != len(data) {
			t.Fatal(err, info)
		}
		kinds = append(kinds, uint16(data[12])<<8|uint16(data[13]))
	}
	if len(kinds) != 3 || kinds[0] != etherIPv6 || kinds[1] != etherIPv4 || kinds[2] != etherIPv4 {
		t.Errorf("captured types %x", kinds)
	}
	if _, err := n.Capture("i-none", io.Discard); !errors.Is(err, ErrNotAttached) {
		t.Errorf("capture of an unknown guest: %v", err)
	}
}

// brokenAfter fails after a number of writes.
type brokenAfter int

func (b *brokenAfter) Write(p []byte) (int, error) {
	if *b--; *b < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestCaptureFails(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	for writes := range brokenAfter(4) {
		stop, err := n.Capture("i-a", &writes)
		if err != nil {
			continue // the file's header did not fit
		}
		w.ping() // goes on whatever becomes of the capture
		stop()
	}
	if stop, err := n.Capture("i-a", io.Discard); err != nil {
		t.Errorf("a capture after those that failed: %v", err)
	} else {
		stop()
	}
}

func TestHopLimit(t *testing.T) {
	n := newNetwork(t, Config{})
	n.HandleHTTP(imdsAddr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := SetHopLimit(r.Context(), 1); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		if err := SetHopLimit(r.Context(), 256); err == nil {
			t.Error("hop limit 256 accepted")
		}
		_, _ = io.WriteString(w, "near")
	}))
	g := newGuest(t, n, "i-a", "10.64.0.10")
	var file bytes.Buffer
	stop, err := n.Capture("i-a", &file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := g.get("http://169.254.169.254/"); err != nil || got != "near" {
		t.Fatalf("got %q, %v", got, err)
	}
	stop()
	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	for data, _, err := r.ReadPacketData(); err == nil; data, _, err = r.ReadPacketData() {
		ip := header.IPv4(data[etherSize:])
		if data[12] != 8 || data[13] != 0 || ip.SourceAddress().As4() != imdsAddr.Addr().As4() {
			continue
		}
		if seg := header.TCP(ip.Payload()); len(seg.Payload()) > 0 {
			answers++
			if ip.TTL() != 1 {
				t.Errorf("answer with TTL %d", ip.TTL())
			}
		}
	}
	if answers == 0 {
		t.Error("no answer captured")
	}
	if err := SetHopLimit(t.Context(), 1); err == nil {
		t.Error("hop limit set without a connection")
	}
	if id, ok := InstanceFrom(t.Context()); ok {
		t.Errorf("a context without a connection is taken for %q", id)
	}
}
