package vnet

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// BenchmarkExposeThroughput moves bytes from a client of the host into a guest. The guest's own stack runs in this
// process too, so a real guest's share comes on top of half of the time.
func BenchmarkExposeThroughput(b *testing.B) {
	for _, mtu := range []struct {
		name string
		mtu  int
	}{{"mtu1500", 1500}, {"mtu9001", 9001}} {
		b.Run(mtu.name, func(b *testing.B) {
			n := newNetwork(b, Config{MTU: mtu.mtu})
			g := newGuest(b, n, "i-a", "10.64.0.10")
			l := g.listen(80)
			received := make(chan int64, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				size, _ := io.Copy(io.Discard, c)
				received <- size
			}()
			address := freeAddress(b)
			if err := n.Expose(address, "i-a", 80); err != nil {
				b.Fatal(err)
			}
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			chunk := make([]byte, 64<<10)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = conn.Close()
			if got := <-received; got != int64(b.N)*int64(len(chunk)) {
				b.Errorf("guest received %d bytes", got)
			}
		})
	}
}

// BenchmarkExposeConnection is a whole connection: dial, one byte each way, close.
func BenchmarkExposeConnection(b *testing.B) {
	n := newNetwork(b, Config{})
	g := newGuest(b, n, "i-a", "10.64.0.10")
	go upper(g.listen(80))
	address := freeAddress(b)
	if err := n.Expose(address, "i-a", 80); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "X" {
			b.Fatal(string(got), err)
		}
		_ = c.Close()
	}
}

// BenchmarkGet is a guest's request to a service of the network.
func BenchmarkGet(b *testing.B) {
	n := newNetwork(b, Config{})
	n.HandleHTTP(imdsAddr, http.HandlerFunc(whoami))
	g := newGuest(b, n, "i-a", "10.64.0.10")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.get("http://169.254.169.254/"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRoute is one packet from a guest to its neighbour's queue.
func BenchmarkRoute(b *testing.B) {
	n := newNetwork(b, Config{})
	a, peer := netip.MustParseAddr("10.64.0.10"), netip.MustParseAddr("10.64.0.11")
	ports := make([]*port, 0, 2)
	for _, ip := range []netip.Addr{a, peer} {
		ports = append(ports, idlePort(b, n, ip))
	}
	w := &wire{ip: a, mac: macOf(a)}
	frame := w.ipFrame(a, peer, 17, 64, make([]byte, 1400))
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	sent := make([]byte, len(frame))
	for b.Loop() {
		copy(sent, frame)
		ports[0].ingest(sent)
		if err := ports[1].writeFrames(io.Discard, firstOf(ports[1].out.take(nil))); err != nil {
			b.Fatal(err)
		}
	}
}

func firstOf[T any](v T, _ bool) T { return v }
