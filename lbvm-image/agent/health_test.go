package agent_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// TestBackendFailsAndRecovers: elb learns of each change at once, and requests go to the healthy ones only.
func TestBackendFailsAndRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		one, two := startBackend(cloud, "i-1", "10.64.0.11"), startBackend(cloud, "i-2", "10.64.0.12")
		cloud.change(func(lb *servo.LoadBalancer) {
			lb.Listeners = []servo.Listener{httpListener(80)}
			lb.Backends = []servo.Backend{one.servo(), two.servo()}
		})
		g := bootWithMedium(t, cloud)
		g.expect(time.Second, 1, agent.StageServing)
		synctest.Wait()
		c := newClient(t, cloud, nil, 80)
		ask := func(want map[string]int) {
			t.Helper()
			got := map[string]int{}
			for range 4 {
				_, body := c.get("http://www.example.test/")
				got[body]++
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		}
		ask(map[string]int{"i-1": 2, "i-2": 2})

		one.fail(true)
		pause(t.Context(), 11*time.Second) // two checks, 5 s apart
		if got := cloud.stateOf("i-1"); got != servo.OutOfService {
			t.Errorf("elb was told %q of i-1", got)
		}
		ask(map[string]int{"i-2": 4})

		two.fail(true)
		pause(t.Context(), 11*time.Second)
		ask(map[string]int{"503 Service Unavailable\n": 4})

		one.fail(false)
		pause(t.Context(), 11*time.Second)
		if got := cloud.stateOf("i-1"); got != servo.InService {
			t.Errorf("elb was told %q of i-1", got)
		}
		ask(map[string]int{"i-1": 4})

		cloud.change(func(lb *servo.LoadBalancer) { lb.Backends = []servo.Backend{two.servo()} })
		synctest.Wait()
		ask(map[string]int{"503 Service Unavailable\n": 4})
	})
}

// TestBackendBootsLate: a backend that boots after the load balancer is in service soon after it answers, not an
// interval later.
func TestBackendBootsLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		cloud.change(func(lb *servo.LoadBalancer) {
			lb.Listeners = []servo.Listener{httpListener(80)}
			lb.Backends = []servo.Backend{{InstanceID: "i-1", IPAddress: "10.64.0.11", ReportHealthCheck: true}}
			lb.HealthCheck.Interval, lb.HealthCheck.HealthyThreshold = 30, 10
		})
		g := bootWithMedium(t, cloud)
		g.expect(time.Second, 1, agent.StageServing)
		pause(t.Context(), 2*time.Second)
		startBackend(cloud, "i-1", "10.64.0.11")
		pause(t.Context(), 2*time.Second)
		if got := cloud.stateOf("i-1"); got != servo.InService {
			t.Errorf("elb was told %q 2 s after the backend answered", got)
		}
	})
}

// TestMetrics: what was carried is told at the interval that elb wishes, and told once; undelivered counts are kept.
func TestMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		one := startBackend(cloud, "i-1", "10.64.0.11")
		one.handler = func(w http.ResponseWriter, r *http.Request) {
			pause(r.Context(), 20*time.Millisecond)
			if r.URL.Path == "/missing" {
				w.WriteHeader(http.StatusNotFound)
			}
		}
		cloud.change(func(lb *servo.LoadBalancer) {
			lb.Listeners = []servo.Listener{httpListener(80)}
			lb.Backends = []servo.Backend{one.servo()}
		})
		g := bootWithMedium(t, cloud)
		g.expect(time.Second, 1, agent.StageServing)
		synctest.Wait()
		c := newClient(t, cloud, nil, 80)
		for range 3 {
			c.get("http://www.example.test/")
		}
		c.get("http://www.example.test/missing")
		cloud.set(func() { cloud.broken = statusFor(servo.PutAction, 500, "") })
		pause(t.Context(), 61*time.Second)
		cloud.set(func() { cloud.broken = nil })
		pause(t.Context(), 3*time.Minute)
		want := []servo.Metric{
			{Name: "RequestCount", Unit: "Count", Value: 4},
			{Name: "Latency", Unit: "Seconds", Value: 0.02},
			{Name: "HTTPCode_Backend_2XX", Unit: "Count", Value: 3},
			{Name: "HTTPCode_Backend_4XX", Unit: "Count", Value: 1},
		}
		cloud.mu.Lock()
		defer cloud.mu.Unlock()
		if diff := cmp.Diff(want, cloud.metrics); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	})
}
