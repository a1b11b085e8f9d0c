package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

func TestNewSpec(t *testing.T) {
	tests := []struct {
		name     string
		listener servo.Listener
		idle     int
		want     spec
	}{
		{
			name: "HTTPS",
			listener: servo.Listener{
				Protocol: "https", InstanceProtocol: "HTTP", InstancePort: 80, SSLCertificateID: "arn", CertificateRevision: "1",
			},
			idle: 5,
			want: spec{
				protocol:    balancer.HTTPS,
				route:       balancer.Route{Protocol: balancer.HTTP, Port: 80, Idle: 5 * time.Second},
				certificate: certificateKey{"arn", "1"},
			},
		},
		{
			name:     "defaults of TCP, and a certificate that means nothing there",
			listener: servo.Listener{Protocol: "TCP", InstancePort: 25, SSLCertificateID: "arn"},
			want: spec{
				protocol: balancer.TCP, route: balancer.Route{Protocol: balancer.TCP, Port: 25, Idle: time.Minute},
			},
		},
		{
			name: "no certificate", listener: servo.Listener{Protocol: "SSL", InstancePort: 1},
			want: spec{problem: "listener names no certificate"},
		},
		{
			name:     "layers mixed",
			listener: servo.Listener{Protocol: "HTTP", InstanceProtocol: "SSL", InstancePort: 1},
			want:     spec{problem: "listener and instance protocol are of different layers"},
		},
		{
			name: "no instance port", listener: servo.Listener{Protocol: "HTTP"},
			want: spec{problem: "instance port is not 1 to 65535"},
		},
		{
			name: "unknown protocol", listener: servo.Listener{Protocol: "UDP", InstancePort: 1},
			want: spec{problem: `unknown protocol "UDP"`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := newSpec(tt.listener, servo.LoadBalancerParams{IdleTimeout: tt.idle})
			if diff := cmp.Diff(tt.want, *got, cmp.AllowUnexported(spec{}, certificateKey{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHealthPolicy(t *testing.T) {
	before := balancer.HealthPolicy{Target: balancer.Target{Protocol: balancer.TCP, Port: 7}}
	tests := []struct {
		name  string
		check servo.HealthCheck
		want  balancer.HealthPolicy
	}{
		{
			name: "whole", check: servo.HealthCheck{
				Target: "HTTP:80/x", Interval: 6, Timeout: 3, UnhealthyThreshold: 4, HealthyThreshold: 5,
			},
			want: balancer.HealthPolicy{
				Target:   balancer.Target{Protocol: balancer.HTTP, Port: 80, Path: "/x"},
				Interval: 6 * time.Second, Timeout: 3 * time.Second, Unhealthy: 4, Healthy: 5,
			},
		},
		{
			name: "none",
			want: balancer.HealthPolicy{
				Target:   balancer.Target{Protocol: balancer.TCP, Port: 8080},
				Interval: 30 * time.Second, Timeout: 5 * time.Second,
			},
		},
		{name: "nonsense", check: servo.HealthCheck{Target: "PING"}, want: before},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lb := servo.LoadBalancer{HealthCheck: tt.check, Listeners: []servo.Listener{{InstancePort: 8080}}}
			got := healthPolicy(lb, before, slog.New(slog.DiscardHandler))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRestTime: how soon the cloud is asked again.
func TestRestTime(t *testing.T) {
	tests := []struct {
		name    string
		answer  servo.Description
		changed bool
		took    time.Duration
		want    time.Duration
	}{
		{"change after a wait", servo.Description{Revision: "2"}, true, 7 * time.Second, 0},
		{"change at once", servo.Description{Revision: "2"}, true, time.Millisecond, settle},
		{"nothing after a wait", servo.Description{Revision: "2"}, false, longPoll, 0},
		{"nothing at once", servo.Description{Revision: "2"}, false, time.Second, defaultPoll},
		{"no long poll", servo.Description{Metadata: servo.Intervals{GetLBInterval: 10}}, true, 0, 10 * time.Second},
		{"absurd interval", servo.Description{Metadata: servo.Intervals{GetLBInterval: 1 << 40}}, true, 0, maxPoll},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := restTime(&tt.answer, tt.changed, tt.took); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestReason: errors of unknown origin are named by kind only.
func TestReason(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"unknown", errors.New("the key is hunter2"), "internal error"},
		{"fatal with a cause", &fatal{phrase: "clock cannot be set", cause: errors.New("hunter2")}, "clock cannot be set"},
		{"network", fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), "unreachable"},
		{"answer", fmt.Errorf("x: %w", keydelivery.ErrAnswer), "answer does not verify"},
		{
			"long", fmt.Errorf("%w: %s", keydelivery.ErrMedium, strings.Repeat("x\n", 200)),
			"bad medium: " + strings.Repeat("x ", 94) + "...",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := reason(tt.err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{first: time.Second, max: 10 * time.Second}
	for _, most := range []time.Duration{1, 2, 4, 8, 10, 10} {
		if got := b.next(); got < most*time.Second/2 || got > most*time.Second {
			t.Errorf("pause %s, want half to all of %s", got, most*time.Second)
		}
	}
	b.reset()
	if got := b.next(); got > time.Second {
		t.Errorf("pause %s after reset", got)
	}
}

// FuzzPortOf: whatever the user data hold, the port is one.
func FuzzPortOf(f *testing.F) {
	f.Add([]byte("hello\nport: 8080\n"), 8080)
	f.Add([]byte("port: 0\nport: x\nport:\n"), 80)
	f.Add([]byte("#!/bin/sh\r\n  port:443\r\n"), 443)
	f.Fuzz(func(t *testing.T, userData []byte, _ int) {
		if port := portOf(userData); port < 1 || port > 65535 {
			t.Errorf("port %d", port)
		}
	})
}

func TestPortOf(t *testing.T) {
	for text, want := range map[string]int{
		"hello\nport: 8080\n": 8080, "": 80, "port: 0\nport: x\nport:\n": 80, "#!/bin/sh\r\n  port:443\r\n": 443,
		"port: 70000": 80, "export: 90": 80,
	} {
		if got := portOf([]byte(text)); got != want {
			t.Errorf("%q gives port %d, want %d", text, got, want)
		}
	}
}
