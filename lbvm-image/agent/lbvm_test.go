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

const arnA, arnB = "arn:aws:iam::123456789012:server-certificate/a", "arn:aws:iam::123456789012:server-certificate/b"

// TestServes is the main job: medium in, verified TLS out, with both kinds of user keys.
func TestServes(t *testing.T) {
	tests := []struct {
		name string
		key  func(*testing.T) signer
	}{
		{"RSA 2048", rsaKey},
		{"ECDSA P-256", ecdsaKey},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cloud := newCloud(t)
				ca := newPair(t, nil, "users' CA", ecdsaKey(t))
				user := newPair(t, ca, "www.example.test", tt.key(t))
				cloud.users[arnA] = user
				one, two := startBackend(cloud, "i-1", "10.64.0.11"), startBackend(cloud, "i-2", "10.64.0.12")
				cloud.change(func(lb *servo.LoadBalancer) {
					lb.Listeners = []servo.Listener{httpsListener(443, arnA, "1")}
					lb.Backends = []servo.Backend{one.servo(), two.servo()}
				})
				g := bootWithMedium(t, cloud)
				g.expect(time.Second, 1, agent.StageServing, "listener=443", "protocol=HTTPS")
				g.expect(0, 1, agent.StageKeyReceived, "listener=443", "arn="+arnA, "fingerprint="+user.fingerprint())
				synctest.Wait()

				c := newClient(t, cloud, ca, 443)
				counts := map[string]int{}
				for range 10 {
					status, body := c.get("https://www.example.test/")
					if status != http.StatusOK {
						t.Fatalf("got %d %s", status, body)
					}
					counts[body]++
				}
				if diff := cmp.Diff(map[string]int{"i-1": 5, "i-2": 5}, counts); diff != "" {
					t.Errorf("round robin (-want +got):\n%s", diff)
				}
				want := []string{
					"ready-for-medium", "medium-read", "credentials", "listeners", "key-received", "serving",
				}
				if diff := cmp.Diff(want, g.console.stages()); diff != "" {
					t.Errorf("stages (-want +got):\n%s", diff)
				}
				pause(t.Context(), time.Second)
				for _, id := range []string{"i-1", "i-2"} {
					if got := cloud.stateOf(id); got != servo.InService {
						t.Errorf("elb was told %q of %s", got, id)
					}
				}
				if got := cloud.reportCount(); got != 1 {
					t.Errorf("elb was told %d times of backends that came into service together", got)
				}
			})
		})
	}
}
