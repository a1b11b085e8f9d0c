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

// TestHealthInARow: only checks in a row count, for going into service and out of it.
func TestHealthInARow(t *testing.T) {
	tests := []struct {
		name, answers string // + and -, then the last again and again
		want          string
	}{
		{"never three well", "++-++-++-", balancer.OutOfService},
		{"three well", "++-+++-+", balancer.InService},
		{"three well, two badly", "+++-+--", balancer.OutOfService},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80})
				var asked atomic.Int64
				r.backend("10.64.0.11", false, func(w http.ResponseWriter, _ *http.Request) {
					at := min(int(asked.Add(1)), len(tt.answers)) - 1
					if tt.answers[at] == '-' {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				})
				r.lb.Pool.Set([]balancer.Backend{{InstanceID: "i-1", Address: "10.64.0.11", Report: true}},
					balancer.HealthPolicy{
						Target:   balancer.Target{Protocol: balancer.HTTP, Port: 80, Path: "/"},
						Interval: 10 * time.Second, Healthy: 3, Unhealthy: 2,
					})
				sleep(5 * time.Minute)
				if got := r.lb.Pool.States()["i-1"]; got != tt.want || int(asked.Load()) < len(tt.answers) {
					t.Errorf("%s after %d checks, want %s", got, asked.Load(), tt.want)
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
			t.Errorf("after two checks %s", got)
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
