package vnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestIdentityByPort(t *testing.T) {
	n := newNetwork(t, Config{})
	a := newGuest(t, n, "i-a", "10.64.0.10")
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	b := newGuest(t, n, "i-b", "10.64.0.11") // attached after the service: it must reach it as well
	for _, g := range []*guest{a, b} {
		got, err := g.get("http://169.254.169.254/")
		if err != nil || got != g.id {
			t.Errorf("guest %s is taken for %q (%v)", g.id, got, err)
		}
	}
}

func TestServiceIsReplaced(t *testing.T) {
	n := newNetwork(t, Config{})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	n.HandleHTTP(
		imdsAddr,
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "new") }),
	)
	if got, err := g.get("http://169.254.169.254/"); err != nil || got != "new" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestGuestToGuest(t *testing.T) {
	n := newNetwork(t, Config{})
	a, b := newGuest(t, n, "i-a", "10.64.0.10"), newGuest(t, n, "i-b", "10.64.77.11")
	l := b.listen(8080)
	seen := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			seen <- err.Error()
			return
		}
		defer c.Close()
		body, _ := io.ReadAll(c)
		seen <- c.RemoteAddr().(*net.TCPAddr).IP.String() + " " + string(body)
	}()
	c, err := a.dial(within(t), netip.MustParseAddrPort("10.64.77.11:8080"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("0123456789", 50_000)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if got := <-seen; got != "10.64.0.10 "+text {
		t.Errorf("guest b received %.40q…, %d bytes", got, len(got))
	}
}

func TestUnreachable(t *testing.T) {
	n := newNetwork(t, Config{})
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	a := newGuest(t, n, "i-a", "10.64.0.10")
	newGuest(t, n, "i-b", "10.64.0.11")
	tests := []struct{ name, to, want string }{
		{"outside", "192.0.2.1:80", "unreachable"},
		{"no guest there", "10.64.9.9:80", "unreachable|no route"},
		{"port of the gateway", "10.64.0.1:22", "refused"},
		{"other port of a service", "169.254.169.254:81", "refused"},
		{"service's port at the gateway", "10.64.0.1:80", "refused"},
		{"closed port of a guest", "10.64.0.11:80", "refused"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c, err := a.dial(within(t), netip.MustParseAddrPort(tc.to))
			if err == nil {
				_ = c.Close()
				t.Fatal("connected")
			}
			for _, w := range strings.Split(tc.want, "|") {
				if strings.Contains(err.Error(), w) {
					return
				}
			}
			t.Errorf("error %q, want %s", err, tc.want)
		})
	}
}

func TestDial(t *testing.T) {
	n := newNetwork(t, Config{})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	l := g.listen(80)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String())
			_ = c.Close()
		}
	}()
	c, err := n.Dial(within(t), "i-a", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "10.64.0.1" {
		t.Errorf("guest sees %q as its client (%v), want the gateway", got, err)
	}
	if _, err := n.Dial(within(t), "i-a", 81); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial of a closed port: %v", err)
	}
	if _, err := n.Dial(within(t), "i-none", 80); !errors.Is(err, ErrNotAttached) {
		t.Errorf("dial of an unknown guest: %v", err)
	}
	if _, err := n.Dial(within(t), "i-a", 70000); err == nil {
		t.Error("dial of port 70000 succeeds")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Dial(ctx, "i-a", 80); err == nil {
		t.Error("dial with an ended context succeeds")
	}
}

func TestDetachEndsConnections(t *testing.T) {
	n := newNetwork(t, Config{})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	l := g.listen(80)
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	c, err := n.Dial(within(t), "i-a", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Until the guest has it too, the connection is one end's word.
	inside := <-accepted
	defer func() { _ = inside.Close() }()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	n.Detach("i-a")
	if err := <-ended; err == nil {
		t.Error("read goes on after the guest was detached")
	}
	// The address is free again, and who gets it is another.
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	if got, err := newGuest(t, n, "i-b", "10.64.0.10").get("http://169.254.169.254/"); err != nil || got != "i-b" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestHalfOpen: a guest that begins connections and does not go on with them costs a bounded number of them, and
// nothing after the end.
func TestHalfOpen(t *testing.T) {
	n := newNetwork(t, Config{})
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	w := attach(t, n, "i-a", "10.64.0.10")
	other := newGuest(t, n, "i-b", "10.64.0.11")
	for i := range 2 * maxHandshakes {
		w.send(w.ipFrame(w.ip, imdsAddr.Addr(), header.TCPProtocolNumber, 64, w.syn(imdsAddr, uint16(1000+i))))
	}
	for range maxHandshakes {
		seg := header.TCP(header.IPv4(w.receive()[etherSize:]).Payload())
		if seg.Flags() != header.TCPFlagSyn|header.TCPFlagAck {
			t.Fatalf("answer %s", seg.Flags())
		}
	}
	if got, err := other.get("http://169.254.169.254/"); err != nil || got != "i-b" {
		t.Errorf("another guest gets %q, %v", got, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDialDetached: a dial that waits for a guest ends with it.
func TestDialDetached(t *testing.T) {
	n := newNetwork(t, Config{})
	w := attach(t, n, "i-a", "10.64.0.10")
	ended := make(chan error, 1)
	go func() {
		_, err := n.Dial(context.Background(), "i-a", 80)
		ended <- err
	}()
	if seg := header.TCP(header.IPv4(w.receive()[etherSize:]).Payload()); seg.Flags() != header.TCPFlagSyn {
		t.Fatalf("received %s", seg.Flags())
	}
	n.Detach("i-a")
	if err := <-ended; !errors.Is(err, ErrNotAttached) {
		t.Errorf("dial ends with %v", err)
	}
}

func TestAttachRefuses(t *testing.T) {
	n := newNetwork(t, Config{})
	good := PortConfig{
		InstanceID: "i-a", MAC: "02:00:0a:40:00:0a", IP: netip.MustParseAddr("10.64.0.10"), Socket: "/nonexistent/s",
	}
	if err := n.Attach(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*PortConfig)
		want   string
	}{
		{"same instance", func(c *PortConfig) { c.IP = netip.MustParseAddr("10.64.0.11") }, "attached already"},
		{"same address", func(c *PortConfig) { c.InstanceID = "i-b" }, "used by another"},
		{"nothing", func(c *PortConfig) { *c = PortConfig{} }, "instance id: missing"},
		{"group MAC", func(c *PortConfig) { c.MAC = "03:00:00:00:00:01" }, "unicast"},
		{"long MAC", func(c *PortConfig) { c.MAC = "02:00:00:00:00:00:00:01" }, "6 bytes"},
		{"no MAC", func(c *PortConfig) { c.MAC = "none" }, "MAC"},
		{"gateway's MAC", func(c *PortConfig) { c.MAC = "02:00:0a:40:00:01" }, "gateway's"},
		{"gateway's IP", func(c *PortConfig) { c.IP = gatewayIP }, "no guest address"},
		{"network address", func(c *PortConfig) { c.IP = netip.MustParseAddr("10.64.0.0") }, "no guest address"},
		{"broadcast address", func(c *PortConfig) { c.IP = netip.MustParseAddr("10.64.255.255") }, "no guest address"},
		{"outside", func(c *PortConfig) { c.IP = netip.MustParseAddr("10.65.0.1") }, "no guest address"},
		{"IPv6", func(c *PortConfig) { c.IP = netip.MustParseAddr("fe80::1") }, "IPv4"},
		{"no socket", func(c *PortConfig) { c.Socket = "" }, "socket: missing"},
		{"long hostname", func(c *PortConfig) { c.Hostname = strings.Repeat("x", 254) }, "at most 253"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			cfg := good
			tc.change(&cfg)
			if err := n.Attach(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	same := good
	same.InstanceID, same.IP = "i-b", netip.MustParseAddr("10.64.0.11")
	if err := n.Attach(t.Context(), same); err != nil {
		t.Errorf("equal MAC on another port: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"zero", Config{}, nil},
		{
			"own",
			Config{Prefix: netip.MustParsePrefix("192.168.0.0/24"), Gateway: netip.MustParseAddr("192.168.0.254"), MTU: 9001},
			nil,
		},
		{
			"all wrong",
			Config{Prefix: netip.MustParsePrefix("192.168.0.0/24"), Gateway: gatewayIP, MTU: 100, MaxConnections: -1},
			[]string{"gateway", "MTU", "max connections"},
		},
		{"too small", Config{Prefix: netip.MustParsePrefix("192.168.0.0/31")}, []string{"at most 30 bits"}},
		{"IPv6", Config{Prefix: netip.MustParsePrefix("fd00::/64")}, []string{"IPv4"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.cfg.Validate()
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not tell about %s", err, w)
				}
			}
		})
	}
}

func TestClosed(t *testing.T) {
	n := newNetwork(t, Config{})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	if _, err := g.get("http://169.254.169.254/"); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	err := n.Attach(
		t.Context(),
		PortConfig{InstanceID: "i-b", MAC: "02:00:00:00:00:01", IP: netip.MustParseAddr("10.64.0.11"), Socket: "/s"},
	)
	if !errors.Is(err, ErrClosed) {
		t.Errorf("attach: %v", err)
	}
	if err := n.Expose("127.0.0.1:9", "i-a", 80); !errors.Is(err, ErrClosed) {
		t.Errorf("expose: %v", err)
	}
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami)) // harmless
	n.Forward(apiAddr, "127.0.0.1:9")
	if _, ok := n.Stats("i-a"); ok {
		t.Error("stats of a closed network")
	}
	if d := cmp.Diff(0, len(n.table.guests)); d != "" {
		t.Error(d)
	}
}
