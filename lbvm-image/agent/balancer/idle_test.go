package balancer_test

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

// TestIdle: the idle timeout counts silence, not time, and can be changed under open connections.
func TestIdle(t *testing.T) {
	route := balancer.Route{Protocol: balancer.HTTP, Port: 80, Idle: 10 * time.Second}
	t.Run("slow but not silent answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, balancer.HTTP, route)
			r.backend("10.64.0.11", false, func(w http.ResponseWriter, _ *http.Request) {
				for range 10 {
					sleep(9 * time.Second)
					_, _ = io.WriteString(w, "x")
					_ = http.NewResponseController(w).Flush()
				}
			})
			r.backends("10.64.0.11")
			if status, body := r.get(r.client()); status != 200 || body != "xxxxxxxxxx" {
				t.Errorf("got %d %s", status, body)
			}
		})
	})
	t.Run("answer that stops half way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, balancer.HTTP, route)
			r.backend("10.64.0.11", false, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
			r.backends("10.64.0.11")
			began := time.Now()
			if status, body := r.get(r.client()); status != 0 || time.Since(began) != 10*time.Second {
				t.Errorf("got %d %s after %s, want a broken answer after 10 s", status, body, time.Since(began))
			}
		})
	})
	t.Run("kept connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, balancer.HTTP, route)
			r.backend("10.64.0.11", false, say("x"))
			r.backends("10.64.0.11")
			idle := func() time.Duration {
				answer, reader, _ := r.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				_, _ = io.Copy(io.Discard, answer.Body)
				began := time.Now()
				_, _ = reader.ReadByte()
				return time.Since(began)
			}
			if got := idle(); got != 10*time.Second {
				t.Errorf("closed after %s", got)
			}
			changed := route
			changed.Idle = 20 * time.Second
			r.front.SetRoute(changed)
			if got := idle(); got != 20*time.Second {
				t.Errorf("closed after %s with 20 s", got)
			}
		})
	})
}

// TestIdleClient: a client that takes nothing of its answer is let go. It runs in real time: net/http waits for a mutex
// meanwhile, which holds a bubble's time still.
func TestIdleClient(t *testing.T) {
	r := newRig(t, balancer.HTTP, balancer.Route{Protocol: balancer.HTTP, Port: 80, Idle: 200 * time.Millisecond})
	ended := make(chan time.Time, 1)
	r.backend("10.64.0.11", false, func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 32<<10))
		}
		ended <- time.Now()
	})
	r.register("10.64.0.11")
	for len(r.lb.Pool.States()) == 0 || r.lb.Pool.States()["i-1"] != balancer.InService {
		<-r.lb.Pool.Changed()
	}
	began := time.Now()
	r.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if took := (<-ended).Sub(began); took < 200*time.Millisecond {
		t.Errorf("ended after %s", took)
	}
}
