package vnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	gatewayIP = netip.MustParseAddr("10.64.0.1")
	imdsAddr  = netip.MustParseAddrPort("169.254.169.254:80")
	apiAddr   = netip.MustParseAddrPort("169.254.169.253:443")
)

const testTimeout = time.Minute

// newNetwork makes a network that the test's end closes.
func newNetwork(t testing.TB, cfg Config) *Network {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// wire is the guest's end of a port: it listens on a unix socket as QEMU does.
type wire struct {
	t        testing.TB
	listener net.Listener
	mac      net.HardwareAddr
	ip       netip.Addr
	conn     net.Conn
	r        *bufio.Reader
}

func macOf(ip netip.Addr) net.HardwareAddr { return gatewayMAC(ip) }

// attach plugs a guest in by a unix socket and returns its end of the wire, connected.
func attach(t testing.TB, n *Network, id, ip string) *wire {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "net.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, listener: l, ip: netip.MustParseAddr(ip), mac: macOf(netip.MustParseAddr(ip))}
	cfg := PortConfig{InstanceID: id, MAC: w.mac.String(), IP: w.ip, Socket: socket, Hostname: "host-" + id}
	if err := n.Attach(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w.accept()
	w.ping() // after its answer the node takes packets for this guest
	t.Cleanup(func() {
		_ = l.Close()
		_ = w.conn.Close()
	})
	return w
}

func (w *wire) accept() {
	w.t.Helper()
	conn, err := w.listener.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	w.conn, w.r = conn, bufio.NewReader(conn)
}

func writeFrame(conn io.Writer, frame []byte) error {
	_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func (w *wire) send(frame []byte) {
	w.t.Helper()
	if err := writeFrame(w.conn, frame); err != nil {
		w.t.Fatal(err)
	}
}

// receive returns the next frame for the guest.
func (w *wire) receive() []byte {
	w.t.Helper()
	if err := w.conn.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		w.t.Fatal(err)
	}
	frame, err := readFrame(w.r)
	if err != nil {
		w.t.Fatalf("read frame: %v", err)
	}
	return frame
}

// ping sends an echo request to the gateway and expects its answer to be the very next frame: whatever was sent before
// got no answer.
func (w *wire) ping() {
	w.t.Helper()
	w.send(w.ipFrame(w.ip, gatewayIP, header.ICMPv4ProtocolNumber, 64, echo()))
	got := w.receive()
	if ip := header.IPv4(got[etherSize:]); ip.TransportProtocol() != header.ICMPv4ProtocolNumber ||
		header.ICMPv4(ip.Payload()).Type() != header.ICMPv4EchoReply {
		w.t.Fatalf("answer is no echo reply but % x", got)
	}
}

func echo() []byte {
	b := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize+4))
	b.SetType(header.ICMPv4Echo)
	b.SetIdent(7)
	b.SetChecksum(header.ICMPv4Checksum(b, 0))
	return b
}

// ipFrame makes a frame from the guest's MAC to the gateway's.
func (w *wire) ipFrame(from, to netip.Addr, proto tcpip.TransportProtocolNumber, ttl uint8, payload []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize+len(payload))
	copy(b[header.IPv4MinimumSize:], payload)
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: ttl, Protocol: uint8(proto),
		SrcAddr: tcpip.AddrFrom4(from.As4()), DstAddr: tcpip.AddrFrom4(to.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	return w.frame(etherIPv4, b)
}

// syn is the first segment of a connection from a port of the guest.
func (w *wire) syn(to netip.AddrPort, from uint16) []byte {
	seg := header.TCP(make([]byte, header.TCPMinimumSize))
	seg.Encode(&header.TCPFields{
		SrcPort: from, DstPort: to.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber,
		tcpip.AddrFrom4(w.ip.As4()), tcpip.AddrFrom4(to.Addr().As4()), uint16(len(seg)))
	seg.SetChecksum(^seg.CalculateChecksum(sum))
	return seg
}

func (w *wire) frame(kind uint16, body []byte) []byte {
	f := append(append([]byte{}, gatewayMAC(gatewayIP)...), w.mac...)
	return append(binary.BigEndian.AppendUint16(f, kind), body...)
}

// guest is a machine with a network stack of its own at the end of the wire: ARP, IP, TCP, by addresses it was told.
type guest struct {
	t     testing.TB
	id    string
	ip    netip.Addr
	stack *stack.Stack
	ep    *channel.Endpoint
	conns chan net.Conn // what the node dialled, for tests that break it
}

// newGuest attaches a guest that lives in this process, by Dial and not by a socket.
func newGuest(t testing.TB, n *Network, id, ip string) *guest {
	t.Helper()
	addr := netip.MustParseAddr(ip)
	g := &guest{t: t, id: id, ip: addr, conns: make(chan net.Conn, 16)}
	g.ep = channel.New(4096, uint32(n.cfg.MTU), tcpip.LinkAddress(macOf(addr)))
	g.stack = guestStack(t, ethernet.New(g.ep), addr)
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	cfg := PortConfig{InstanceID: id, MAC: macOf(addr).String(), IP: addr}
	cfg.Dial = func(context.Context) (net.Conn, error) {
		node, mine := net.Pipe()
		work.Go(func() { g.pump(ctx, mine) })
		g.conns <- mine
		return node, nil
	}
	if err := n.Attach(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Detach(id)
		stop()
		work.Wait()
		g.stack.Close()
		g.stack.Wait()
	})
	return g
}

func guestStack(t testing.TB, ep stack.LinkEndpoint, ip netip.Addr) *stack.Stack {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	timeWait := tcpip.TCPTimeWaitTimeoutOption(10 * time.Millisecond)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &timeWait)
	if err := s.CreateNIC(1, ep); err != nil {
		t.Fatal(err)
	}
	own := tcpip.AddrFrom4(ip.As4()).WithPrefix()
	if err := s.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own},
		stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(gatewayIP.As4()), NIC: 1},
	})
	return s
}

// pump moves frames between the guest's stack and its connection until that ends.
func (g *guest) pump(ctx context.Context, conn net.Conn) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var out sync.WaitGroup
	defer out.Wait()
	out.Go(func() {
		for pkt := g.ep.ReadContext(ctx); pkt != nil; pkt = g.ep.ReadContext(ctx) {
			v := pkt.ToView()
			err := writeFrame(conn, v.AsSlice())
			v.Release()
			pkt.DecRef()
			if err != nil {
				return
			}
		}
	})
	defer stop()
	r := bufio.NewReader(conn)
	for {
		frame, err := readFrame(r)
		if err != nil {
			return
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		g.ep.InjectInbound(0, pkt)
		pkt.DecRef()
	}
}

func (g *guest) dial(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, g.stack,
		tcpip.FullAddress{Addr: tcpip.AddrFrom4(to.Addr().As4()), Port: to.Port()}, ipv4.ProtocolNumber)
}

func (g *guest) listen(port uint16) *gonet.TCPListener {
	g.t.Helper()
	l, err := gonet.ListenTCP(g.stack, tcpip.FullAddress{Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = l.Close() })
	return l
}

// client is an HTTP client inside the guest.
func (g *guest) client() *http.Client {
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			return g.dial(ctx, to)
		},
	}
	return &http.Client{Transport: tr, Timeout: testTimeout}
}

func (g *guest) get(url string) (string, error) {
	resp, err := g.client().Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return string(b), err
}

// whoami answers with the identity that the network vouches for.
func whoami(w http.ResponseWriter, r *http.Request) {
	id, ok := InstanceFrom(r.Context())
	if !ok {
		http.Error(w, "nobody", http.StatusForbidden)
		return
	}
	_, _ = io.WriteString(w, id)
}
