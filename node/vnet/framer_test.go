package vnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// framePlug is a guest's end that hands over frames.
type framePlug struct {
	net.Conn // nobody reads or writes bytes
	sent     chan []byte
	done     chan struct{}
	once     sync.Once
	ready    chan func([]byte)
}

func newFramePlug() *framePlug {
	return &framePlug{sent: make(chan []byte, 16), done: make(chan struct{}), ready: make(chan func([]byte), 1)}
}

func (f *framePlug) Frames(receive func([]byte)) { f.ready <- receive }

func (f *framePlug) Send(frame []byte) error {
	select {
	case f.sent <- bytes.Clone(frame):
		return nil
	default:
		return errors.New("full")
	}
}

func (f *framePlug) Done() <-chan struct{} { return f.done }

func (f *framePlug) Close() error {
	f.once.Do(func() { close(f.done) })
	return nil
}

// TestFramer: a guest that hands over frames is checked and answered like any other, and plugged in again when its
// connection ends.
func TestFramer(t *testing.T) {
	n := newNetwork(t, Config{})
	ip := netip.MustParseAddr("10.64.0.9")
	plugs := make(chan *framePlug, 4)
	err := n.Attach(t.Context(), PortConfig{InstanceID: "i-a", MAC: macOf(ip).String(), IP: ip,
		Dial: func(context.Context) (net.Conn, error) {
			f := newFramePlug()
			plugs <- f
			return f, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, ip: ip, mac: macOf(ip)}
	for range 2 {
		plug := <-plugs
		receive := <-plug.ready
		receive(w.ipFrame(netip.MustParseAddr("10.64.0.77"), gatewayIP, header.ICMPv4ProtocolNumber, 64, echo()))
		receive(make([]byte, etherSize+n.cfg.MTU+1))
		receive(w.ipFrame(ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo()))
		answer := <-plug.sent
		if got := header.IPv4(answer[etherSize:]); header.ICMPv4(got.Payload()).Type() != header.ICMPv4EchoReply {
			t.Fatalf("answer is % x", answer)
		}
		_ = plug.Close()
	}
	<-plugs // the third: the counters of the second are complete
	s, _ := n.Stats("i-a")
	if s.SpoofedIP != 2 || s.DroppedOversize != 2 || s.SentFrames != 2 || s.ReceivedFrames != 6 || s.Connects < 2 {
		t.Errorf("counters %+v", s)
	}
}

// TestFramerFull: a frame that the guest does not take counts as lost.
func TestFramerFull(t *testing.T) {
	n := newNetwork(t, Config{})
	p := idlePort(t, n, netip.MustParseAddr("10.64.0.9"))
	plug := newFramePlug()
	p.out.open(plug)
	for range cap(plug.sent) + 1 {
		p.probe()
	}
	if lost := p.counters.drops[dropQueueFull].Load(); lost != 1 {
		t.Errorf("%d frames lost, want 1", lost)
	}
}

// TestHandOver: a server in this process gets the guest's own connection, and others are dialled.
func TestHandOver(t *testing.T) {
	const here, address = "here:443", "169.254.169.253:443"
	taken := make(chan net.Conn, 1)
	n := newNetwork(t, Config{HandOver: func(target string) func(net.Conn) {
		if target != here {
			return nil
		}
		return func(c net.Conn) { taken <- c }
	}})
	n.Forward(apiAddr, here)
	g := newGuest(t, n, "i-a", "10.64.0.10")
	c, err := g.dial(within(t), netip.MustParseAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := <-taken
	if _, err := server.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, 5)
	if _, err := c.Read(hello); err != nil || string(hello) != "hello" {
		t.Errorf("guest read %q, %v", hello, err)
	}
	if open := servingOf(n, "i-a"); open != 1 {
		t.Errorf("%d connections count, want 1", open)
	}
	_ = server.Close()
	if open := servingOf(n, "i-a"); open != 0 {
		t.Errorf("%d connections count after the end, want 0", open)
	}

	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	n.Forward(apiAddr, freeAddress(t)) // nobody listens there
	if _, err := g.dial(within(t), netip.MustParseAddrPort(address)); err == nil {
		t.Error("a target that is elsewhere was not dialled")
	}
	if got, err := g.get("http://169.254.169.254/"); err != nil || got != "i-a" {
		t.Errorf("got %q, %v", got, err)
	}
}

func servingOf(n *Network, id string) int {
	p, err := n.port(id)
	if err != nil {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving
}

// TestListen: exposed addresses may be those of another host than the kernel's.
func TestListen(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	n := newNetwork(t, Config{Listen: func(_ context.Context, _, address string) (net.Listener, error) {
		asked <- address
		return inner, nil
	}})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	go upper(g.listen(80))
	if err := n.Expose("127.9.9.9:443", "i-a", 80); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "127.9.9.9:443" {
		t.Errorf("listens on %s", got)
	}
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("x"))
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "X" {
		t.Errorf("read %q, %v", got, err)
	}
}
