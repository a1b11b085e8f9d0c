package balancer

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHandshakesAreToldNowAndThen however many there are: the first soon, the rest as counts, the last at the end.
func TestHandshakesAreToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // timers tell, each in a goroutine of its own
		var all []Handshakes
		h := &handshakes{tell: func(c Handshakes) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, c)
		}}
		soFar := func() []Handshakes {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		begun := time.Now()
		for range 100 {
			h.begun()
		}
		time.Sleep(firstHandshakes)
		if told := soFar(); len(told) != 1 || told[0] != (Handshakes{Begun: 100}) {
			t.Errorf("told at first: %v", told)
		}
		for time.Since(begun) < time.Minute {
			h.begun()
			h.failed("remote error: tls: bad certificate")
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(soFar()); n < 5 || n > 7 {
			t.Errorf("told %d times in a minute", n)
		}
		time.Sleep(time.Minute)
		told := soFar()
		n := len(told)
		last := told[n-1]
		if last.Begun-100 != last.Failed || last.Failure != "remote error: tls: bad certificate" {
			t.Errorf("told last: %v", last)
		}
		time.Sleep(time.Minute)
		if told = soFar(); len(told) != n {
			t.Errorf("told again though nothing happened: %v", told[n:])
		}
		h.failed(strings.Repeat("x", 300))
		h.close()
		if told = soFar(); len(told) != n+1 || told[n].Failed != last.Failed+1 || len(told[n].Failure) != maxFailure {
			t.Errorf("told at the end: %v", told[n:])
		}
		h.begun()
		h.close()
		time.Sleep(time.Minute)
		if told = soFar(); len(told) != n+1 {
			t.Errorf("told after the end: %v", told[n+1:])
		}
	})
}

// TestAFewHandshakesAreToldSingly has a thousand come at once, and more later.
func TestAFewHandshakesAreToldSingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var single []Handshake
		var counted []uint64
		h := &handshakes{tell: func(c Handshakes) {
			mu.Lock()
			defer mu.Unlock()
			counted = append(counted, c.Begun)
		}, one: func(one Handshake) {
			mu.Lock()
			defer mu.Unlock()
			single = append(single, one)
		}}
		state := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256,
			ServerName: "www.example.test"}
		for range 1000 {
			h.begun()
			h.done(state)
		}
		time.Sleep(time.Second)
		h.failed("EOF")
		state.ServerName, state.DidResume = strings.Repeat("n", 300), true
		h.done(state)
		h.close()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		agreed := Handshake{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", ServerName: "www.example.test"}
		again := agreed
		again.ServerName, again.Resumed = strings.Repeat("n", maxServerName), true
		want := append(slices.Repeat([]Handshake{agreed}, singly), Handshake{Failure: "EOF"}, again)
		if diff := cmp.Diff(want, single); diff != "" {
			t.Errorf("told singly (-want +got):\n%s", diff)
		}
		if !slices.Equal(counted, []uint64{1000, 1000}) {
			t.Errorf("counted %v", counted)
		}
	})
}

func TestComplaintsOnHandshakesAreCounted(t *testing.T) {
	var next bytes.Buffer
	h := &handshakes{tell: func(Handshakes) {}}
	defer h.close()
	logger := log.New(&complaintWriter{handshakes: h, next: &next}, "", 0)
	logger.Printf("http: TLS handshake error from %s: %v", "[::1]:4242", io.EOF)
	logger.Printf("http: panic serving %s", "10.0.0.1:1")
	if diff := cmp.Diff(Handshakes{Failed: 1, Failure: "EOF"}, h.counts); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	if n := strings.Count(next.String(), "\n"); n != 2 {
		t.Errorf("%d lines were handed on: %s", n, next.String())
	}
}
