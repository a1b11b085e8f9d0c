package balancer_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

func TestParseTarget(t *testing.T) {
	tests := []struct {
		name, text string
		want       balancer.Target
		bad        bool
	}{
		{name: "TCP", text: "TCP:80", want: balancer.Target{Protocol: balancer.TCP, Port: 80}},
		{name: "small letters", text: "ssl:65535", want: balancer.Target{Protocol: balancer.SSL, Port: 65535}},
		{name: "root", text: "HTTP:80/", want: balancer.Target{Protocol: balancer.HTTP, Port: 80, Path: "/"}},
		{
			name: "query", text: "HTTPS:443/a/b?c=d:e",
			want: balancer.Target{Protocol: balancer.HTTPS, Port: 443, Path: "/a/b?c=d:e"},
		},
		{name: "empty", bad: true},
		{name: "no port", text: "TCP", bad: true},
		{name: "port 0", text: "TCP:0", bad: true},
		{name: "port too high", text: "TCP:65536", bad: true},
		{name: "TCP with a path", text: "TCP:80/", bad: true},
		{name: "HTTP without a path", text: "HTTP:80", bad: true},
		{name: "line break", text: "HTTP:80/\r\nX: y", bad: true},
		{name: "too long", text: "HTTP:80/" + strings.Repeat("a", 1024), bad: true},
		{name: "unknown", text: "UDP:80", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := balancer.ParseTarget(tt.text)
			if (err != nil) != tt.bad {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzParseTarget: what is taken is bounded and reads back as itself.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"TCP:80", "HTTP:80/x?y", "ssl:443", "HTTPS:0443//", "", ":", "HTTP:/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := balancer.ParseTarget(text)
		if err != nil {
			return
		}
		if target.Port < 1 || target.Port > 65535 || len(target.Path) > 1024 {
			t.Fatalf("out of bounds: %+v", target)
		}
		again, err := balancer.ParseTarget(target.String())
		if err != nil || again != target {
			t.Fatalf("%+v reads back as %+v, %v", target, again, err)
		}
	})
}

// TestHealthChecks: which backends pass which checks.
func TestHealthChecks(t *testing.T) {
	tests := []struct {
		name, target string
		secure       bool
		want         string
	}{
		{"HTTP", "HTTP:80/ok", false, balancer.InService},
		{"HTTP with another status", "HTTP:80/redirect", false, balancer.OutOfService},
		{"HTTP too slow", "HTTP:80/slow", false, balancer.OutOfService},
		{"HTTP without end", "HTTP:80/endless", false, balancer.InService},
		{"HTTPS", "HTTPS:80/ok", true, balancer.InService},
		{"HTTPS to plain HTTP", "HTTPS:80/ok", false, balancer.OutOfService},
		{"SSL", "SSL:80", true, balancer.InService},
		{"SSL to plain TCP", "SSL:80", false, balancer.OutOfService},
		{"TCP", "TCP:80", false, balancer.InService},
		{"TCP to nobody", "TCP:81", false, balancer.OutOfService},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80})
				r.backend("10.64.0.11", tt.secure, checked)
				target, err := balancer.ParseTarget(tt.target)
				if err != nil {
					t.Fatal(err)
				}
				r.lb.Pool.Set([]balancer.Backend{
					{InstanceID: "i-1", Address: "10.64.0.11", Report: true}, {InstanceID: "i-2", Address: "10.64.0.11"},
				}, balancer.HealthPolicy{Target: target, Interval: 10 * time.Second, Timeout: 2 * time.Second, Healthy: 3})
				sleep(time.Minute)
				if diff := cmp.Diff(map[string]string{"i-1": tt.want}, r.lb.Pool.States()); diff != "" {
					t.Errorf("states (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestHealthInARow: the first success puts a backend into service; later only checks in a row count, for going
// out of service and back into it.
func TestHealthInARow(t *testing.T) {
	tests := []struct {
		name    string
		answers string // + and -
		want    string // the state after each answer: I and O
	}{
		{"starts", "--+", "OOI"},
		{"single failures", "+-+-+-+", "IIIIIII"},
		{"two badly", "+--", "IIO"},
		{"three well again", "+--++-+++-+", "IIOOOOOOIII"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80})
				var asked atomic.Int64
				r.backend("10.64.0.11", false, func(w http.ResponseWriter, _ *http.Request) {
					if tt.answers[int(asked.Add(1)-1)%len(tt.answers)] == '-' {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				})
				r.lb.Pool.Set([]balancer.Backend{{InstanceID: "i-1", Address: "10.64.0.11", Report: true}},
					balancer.HealthPolicy{
						Target:   balancer.Target{Protocol: balancer.HTTP, Port: 80, Path: "/"},
						Interval: 10 * time.Second, Healthy: 3, Unhealthy: 2,
					})
				var got strings.Builder
				for known := int64(0); int(known) < len(tt.answers); sleep(time.Millisecond) {
					if synctest.Wait(); asked.Load() == known {
						continue
					}
					known = asked.Load()
					got.WriteString(r.lb.Pool.States()["i-1"][:1])
				}
				if got.String() != tt.want {
					t.Errorf("states %s after %s, want %s", got.String(), tt.answers, tt.want)
				}
			})
		})
	}
}

// TestStartingRate: a backend that starts is asked often enough to be found soon, and never in a burst, however
// long it takes.
func TestStartingRate(t *testing.T) {
	const interval = 30 * time.Second
	tests := []struct {
		name   string
		status int
		after  time.Duration
		checks int64 // at most
	}{
		{"well", http.StatusOK, interval - time.Second, 1},
		{"well for an hour", http.StatusOK, time.Hour - time.Second, int64(time.Hour / interval)},
		{"badly", http.StatusServiceUnavailable, time.Second, 4},
		{"badly for an hour", http.StatusServiceUnavailable, time.Hour, 10 + int64(time.Hour/interval)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80})
				var asked atomic.Int64
				r.backend("10.64.0.11", false, func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(tt.status)
					if asked.Add(1) > tt.checks {
						<-r.Context().Done() // or checks without a pause would hold the bubble's time still
					}
				})
				r.lb.Pool.Set([]balancer.Backend{{InstanceID: "i-1", Address: "10.64.0.11"}}, balancer.HealthPolicy{
					Target: balancer.Target{Protocol: balancer.HTTP, Port: 80, Path: "/"}, Interval: interval,
				})
				sleep(tt.after)
				if got := asked.Load(); got == 0 || got > tt.checks {
					t.Errorf("%d checks in %s, want 1 to %d", got, tt.after, tt.checks)
				}
			})
		})
	}
}

// TestPoolSet: who stays keeps his state, who moved does not.
func TestPoolSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80})
		r.backend("10.64.0.11", false, checked)
		policy := balancer.HealthPolicy{Target: balancer.Target{Protocol: balancer.TCP, Port: 80}, Healthy: 2}
		set := func(policy balancer.HealthPolicy, address string) string {
			r.lb.Pool.Set([]balancer.Backend{{InstanceID: "i-1", Address: address, Report: true}}, policy)
			return r.lb.Pool.States()["i-1"]
		}
		if got := set(policy, "10.64.0.11"); got != balancer.OutOfService {
			t.Errorf("begins %s", got)
		}
		synctest.Wait()
		if got := set(policy, "10.64.0.11"); got != balancer.InService {
			t.Errorf("after a check %s", got)
		}
		policy.Interval = 5 * time.Second
		if got := set(policy, "10.64.0.11"); got != balancer.InService {
			t.Errorf("under another policy %s", got)
		}
		if got := set(policy, "10.64.0.12"); got != balancer.OutOfService {
			t.Errorf("at another address %s", got)
		}
	})
}
