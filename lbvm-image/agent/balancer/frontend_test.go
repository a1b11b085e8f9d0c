package balancer_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

// TestClose: a closing port takes nobody new, and lets what is under way finish.
func TestClose(t *testing.T) {
	tests := []struct {
		name  string
		drain time.Duration
		want  []int
	}{
		{"in time", 5 * time.Second, []int{200}},
		// Its connection is cut, or it gets the last word of a listener that closes.
		{"too late", time.Second, []int{0, 503}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.HTTP, toHTTP)
				r.backend("10.64.0.11", false, func(w http.ResponseWriter, r *http.Request) {
					select {
					case <-time.After(3 * time.Second):
						_, _ = io.WriteString(w, "done")
					case <-r.Context().Done():
					}
				})
				r.backends("10.64.0.11")
				got := make(chan int)
				go func() {
					status, _ := r.get(r.client())
					got <- status
				}()
				sleep(100 * time.Millisecond)
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					ctx, cancel := context.WithTimeout(t.Context(), tt.drain)
					defer cancel()
					r.front.Close(ctx)
				}()
				synctest.Wait()
				if status, _ := r.get(r.client()); status != 0 {
					t.Errorf("a new client got %d", status)
				}
				if status := <-got; !slices.Contains(tt.want, status) {
					t.Errorf("the request under way got %d, want %d", status, tt.want)
				}
				<-closed
			})
		})
	}
}

// TestLimits: headers and connections are bounded; who waits for a connection gets it when another one ends.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.HTTP, toHTTP, func(c *balancer.Config) { c.Connections = 2 })
		r.backend("10.64.0.11", false, say("x"))
		r.backends("10.64.0.11")
		answer, _, conn := r.raw("GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 70<<10) + "\r\n\r\n")
		if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("long headers got %d", answer.StatusCode)
		}
		_ = conn.Close()
		synctest.Wait()
		first, second := r.dial(), r.dial()
		synctest.Wait()
		served := make(chan int)
		go func() {
			status, _ := r.get(r.client())
			served <- status
		}()
		synctest.Wait()
		select {
		case status := <-served:
			t.Errorf("a third connection was served: %d", status)
		default:
		}
		_ = first.Close()
		if status := <-served; status != 200 {
			t.Errorf("the third got %d", status)
		}
		_ = second.Close()
	})
}
