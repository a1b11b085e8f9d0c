package vnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// freeAddress returns a port of the host's loopback on which nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func dialHost(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// upper answers each connection with its upper-cased input, after that input's end.
func upper(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b, _ := io.ReadAll(c)
			_, _ = c.Write(bytes.ToUpper(b))
		}()
	}
}

func TestExpose(t *testing.T) {
	n := newNetwork(t, Config{})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	l := g.listen(443)
	go upper(l)
	address := freeAddress(t)
	if err := n.Expose(address, "i-a", 443); err != nil {
		t.Fatal(err)
	}
	if err := n.Expose(address, "i-a", 443); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := n.Expose(address, "i-a", 444); err == nil || !strings.Contains(err.Error(), "leads to port 443 of i-a") {
		t.Errorf("another port at the same address: %v", err)
	}
	text := strings.Repeat("half close passes ", 20_000)
	c := dialHost(t, address)
	go func() {
		_, _ = io.WriteString(c, text)
		_ = c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || string(got) != strings.ToUpper(text) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(text))
	}
	n.Unexpose(address)
	n.Unexpose(address)
	if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after Unexpose: %v", err)
	}
	if err := n.Expose(address, "i-a", 443); err != nil {
		t.Errorf("expose again: %v", err)
	}
	n.Detach("i-a")
	if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after Detach: %v", err)
	}
}

func TestExposeClosedPort(t *testing.T) {
	n := newNetwork(t, Config{})
	newGuest(t, n, "i-a", "10.64.0.10")
	address := freeAddress(t)
	if err := n.Expose(address, "i-a", 443); err != nil {
		t.Fatal(err)
	}
	c, err := net.DialTimeout("tcp", address, testTimeout) // the reset may be there before the dialler looks
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("use of a closed port of the guest: %v, want a reset", err)
	}
}

// TestExposeReset: what breaks on the guest's side breaks for the client, and the other way round.
func TestExposeReset(t *testing.T) {
	n := newNetwork(t, Config{})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	l := g.listen(443)
	address := freeAddress(t)
	if err := n.Expose(address, "i-a", 443); err != nil {
		t.Fatal(err)
	}
	c := dialHost(t, address)
	inside, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := inside.Read(make([]byte, 1))
		ended <- err
	}()
	reset(c)
	if err := <-ended; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("guest reads %v after its client's reset", err)
	}

	c = dialHost(t, address)
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	n.Detach("i-a")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client reads %v after the guest is gone, want a reset", err)
	}
}

func TestExposeRefuses(t *testing.T) {
	n := newNetwork(t, Config{})
	newGuest(t, n, "i-a", "10.64.0.10")
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	tests := []struct {
		name, address, instance string
		port                    int
		want                    string
	}{
		{"all addresses", "0.0.0.0:4443", "i-a", 443, "127.0.0.0/8"},
		{"an address of the network", "192.0.2.1:4443", "i-a", 443, "127.0.0.0/8"},
		{"IPv6 loopback", "[::1]:4443", "i-a", 443, "127.0.0.0/8"},
		{"any port", "127.0.0.1:0", "i-a", 443, "127.0.0.0/8"},
		{"a name", "localhost:443", "i-a", 443, "localhost:443"},
		{"no port", "127.0.0.1", "i-a", 443, "127.0.0.1"},
		{"busy", busy.Addr().String(), "i-a", 443, busy.Addr().String() + ": the port is busy"},
		{"guest port 0", "127.0.0.1:4443", "i-a", 0, "guest port 0"},
		{"guest port too high", "127.0.0.1:4443", "i-a", 65536, "guest port 65536"},
		{"unknown guest", "127.0.0.1:4443", "i-b", 443, "i-b: instance is not attached"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if err := n.Expose(tc.address, tc.instance, tc.port); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestExposeIsBounded: with one slot a second client waits until the first is done.
func TestExposeIsBounded(t *testing.T) {
	n := newNetwork(t, Config{MaxConnections: 1})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	go upper(g.listen(443))
	address := freeAddress(t)
	if err := n.Expose(address, "i-a", 443); err != nil {
		t.Fatal(err)
	}
	first, second := dialHost(t, address), dialHost(t, address)
	_, _ = io.WriteString(second, "second")
	_ = second.CloseWrite()
	_, _ = io.WriteString(first, "first")
	_ = first.CloseWrite()
	for _, c := range []*net.TCPConn{first, second} {
		if got, err := io.ReadAll(c); err != nil || len(got) == 0 {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestForward(t *testing.T) {
	n := newNetwork(t, Config{})
	g := newGuest(t, n, "i-a", "10.64.0.10")
	host, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() { upper(host) })
	n.Forward(apiAddr, host.Addr().String())
	c, err := g.dial(within(t), apiAddr)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("to the cloud ", 20_000)
	go func() {
		_, _ = io.WriteString(c, text)
		_ = c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || string(got) != strings.ToUpper(text) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(text))
	}
	_ = c.Close()
	_ = host.Close()
	work.Wait()
	if c, err := g.dial(within(t), apiAddr); err == nil {
		_ = c.Close()
		t.Error("connected though the target is gone")
	} else if !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial with the target gone: %v, want refused", err)
	}
}

func TestForwardIsBounded(t *testing.T) {
	n := newNetwork(t, Config{MaxConnections: 2})
	a, b := newGuest(t, n, "i-a", "10.64.0.10"), newGuest(t, n, "i-b", "10.64.0.11")
	host, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	n.Forward(apiAddr, host.Addr().String())
	for range 2 {
		c, err := a.dial(within(t), apiAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if c, err := a.dial(within(t), apiAddr); err == nil {
		_ = c.Close()
		t.Error("a third connection of one guest succeeds")
	}
	c, err := b.dial(within(t), apiAddr)
	if err != nil {
		t.Errorf("another guest suffers: %v", err)
	} else {
		_ = c.Close()
	}
}

func TestServiceAddresses(t *testing.T) {
	var logged strings.Builder
	n := newNetwork(t, Config{Logger: textLogger(&logged)})
	for _, addr := range []string{"10.64.0.10:80", "[::1]:80", "127.0.0.1:80", "169.254.169.254:0", "224.0.0.1:80"} {
		n.Forward(netip.MustParseAddrPort(addr), "127.0.0.1:1")
	}
	if got := strings.Count(logged.String(), "forward not registered"); got != 5 {
		t.Errorf("%d of 5 bad addresses refused:\n%s", got, logged.String())
	}
}
