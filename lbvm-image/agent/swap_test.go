package agent_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// lab is a cloud with two certificates and one backend, and a guest that serves listeners.
type lab struct {
	cloud *fakeCloud
	ca    *pair
	a, b  *pair
	guest *guest
}

func newLab(t *testing.T, listeners ...servo.Listener) *lab {
	t.Helper()
	l := &lab{cloud: newCloud(t), ca: newPair(t, nil, "users' CA", ecdsaKey(t))}
	l.a = newPair(t, l.ca, "www.example.test", ecdsaKey(t))
	l.b = newPair(t, l.ca, "www.example.test", ecdsaKey(t))
	l.cloud.users[arnA], l.cloud.users[arnB] = l.a, l.b
	one := startBackend(l.cloud, "i-1", "10.64.0.11")
	l.cloud.change(func(lb *servo.LoadBalancer) {
		lb.Listeners = listeners
		lb.Backends = []servo.Backend{one.servo()}
	})
	l.guest = bootWithMedium(t, l.cloud)
	for _, listener := range listeners {
		l.guest.expect(time.Second, 1, agent.StageServing, "listener="+strconv.Itoa(listener.LoadBalancerPort))
	}
	synctest.Wait()
	return l
}

func (l *lab) listeners(list ...servo.Listener) {
	l.cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = list })
}

// keepAsking sends requests over many connections, kept ones and fresh ones, until stopped, and returns how many
// failed and how many went well.
func (l *lab) keepAsking(t *testing.T, port int, every time.Duration) (stop func() (failed []string, ok int64)) {
	t.Helper()
	var (
		ctx, cancel = context.WithCancel(context.Background())
		clients     sync.WaitGroup
		mu          sync.Mutex
		failed      []string
		ok          atomic.Int64
	)
	for i := range 4 {
		c := newClient(t, l.cloud, l.ca, port)
		c.transport.DisableKeepAlives = i%2 == 1
		clients.Go(func() {
			for ctx.Err() == nil {
				status, body := c.get("https://www.example.test/")
				if status != http.StatusOK {
					mu.Lock()
					failed = append(failed, strconv.Itoa(status)+" "+body)
					mu.Unlock()
				}
				ok.Add(1)
				pause(ctx, every)
			}
		})
	}
	return func() ([]string, int64) {
		cancel()
		clients.Wait()
		return failed, ok.Load() - int64(len(failed))
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// TestCertificateSwap changes what a listener serves while clients go on: none may fail.
func TestCertificateSwap(t *testing.T) {
	tests := []struct {
		name   string
		change func(l *lab)
		want   func(l *lab) *pair
	}{
		{
			name:   "another ARN",
			change: func(l *lab) { l.listeners(httpsListener(443, arnB, "1")) },
			want:   func(l *lab) *pair { return l.b },
		},
		{
			name: "same ARN with a new key",
			change: func(l *lab) {
				l.cloud.set(func() { l.cloud.users[arnA] = l.b })
				l.listeners(httpsListener(443, arnA, "2"))
			},
			want: func(l *lab) *pair { return l.b },
		},
		{
			name: "a refusal between two writes of the cloud",
			change: func(l *lab) {
				l.cloud.set(func() { l.cloud.withdrawn[arnB] = "NotAuthorized" })
				l.listeners(httpsListener(443, arnB, "1"))
				synctest.Wait()
				l.cloud.set(func() { delete(l.cloud.withdrawn, arnB) })
			},
			want: func(l *lab) *pair { return l.b },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, httpsListener(443, arnA, "1"))
				if got := presented(l.cloud, 443); got != l.a.fingerprint() {
					t.Fatalf("serves %s before the change", got)
				}
				stop := l.keepAsking(t, 443, 10*time.Millisecond)
				pause(t.Context(), 100*time.Millisecond)
				tt.change(l)
				l.guest.expect(time.Second, 2, agent.StageKeyReceived)
				pause(t.Context(), 100*time.Millisecond)
				failed, ok := stop()
				if len(failed) > 0 || ok < 20 {
					t.Errorf("%d requests went well, %d failed: %v", ok, len(failed), failed)
				}
				if got := presented(l.cloud, 443); got != tt.want(l).fingerprint() {
					t.Errorf("serves %s after the change", got)
				}
				if n := l.guest.console.find(agent.StageListenerFailed); n > 0 {
					t.Errorf("%d failures on the console:\n%s", n, l.guest.console.raw.String())
				}
			})
		})
	}
}

// TestSwapEndsOldSessions: a client must not resume a session that was begun under the certificate before.
func TestSwapEndsOldSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, httpsListener(443, arnA, "1"))
		cache := newSessions()
		if first := l.resume(t, cache); first {
			t.Fatal("the first handshake was resumed")
		}
		if second := l.resume(t, cache); !second {
			t.Fatal("the second handshake was not resumed: the test proves nothing")
		}
		l.listeners(httpsListener(443, arnB, "1"))
		l.guest.expect(time.Second, 2, agent.StageKeyReceived)
		if third := l.resume(t, cache); third {
			t.Error("a session of the old certificate was resumed")
		}
	})
}

// TestWithdrawn: a certificate that may no longer be served closes its port and no other.
func TestWithdrawn(t *testing.T) {
	refuseA := func(code string) func(l *lab) {
		return func(l *lab) {
			l.cloud.set(func() { l.cloud.withdrawn[arnA] = code })
			l.listeners(httpsListener(443, arnA, ""), httpsListener(8443, arnB, "1"))
		}
	}
	tests := []struct {
		name   string
		change func(l *lab)
		within time.Duration
		reason string
	}{
		{"deleted", refuseA("NoSuchEntity"), time.Second, "refused: NoSuchEntity"},
		{"grant removed", refuseA("NotAuthorized"), time.Second, "refused: NotAuthorized"},
		{
			name: "another one that is not to be had",
			change: func(l *lab) {
				l.listeners(httpsListener(443, arnA+"-nowhere", "1"), httpsListener(8443, arnB, "1"))
			},
			within: time.Second, reason: "refused: NoSuchEntity",
		},
		{
			name: "another one that never comes",
			change: func(l *lab) {
				l.cloud.set(func() { l.cloud.broken = hangFor(keydelivery.Action) })
				l.listeners(httpsListener(443, arnA+"-late", "1"), httpsListener(8443, arnB, "1"))
			},
			within: 11 * time.Second, reason: "the new certificate did not come in time",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, httpsListener(443, arnA, "1"), httpsListener(8443, arnB, "1"))
				stop := l.keepAsking(t, 8443, 250*time.Millisecond)
				tt.change(l)
				l.guest.expect(tt.within, 1, agent.StageListenerClosed, "listener=443")
				l.guest.expect(0, 1, agent.StageListenerFailed, "listener=443", "reason="+tt.reason)
				synctest.Wait()
				if _, err := l.cloud.net.Host(gatewayIP).Dial(t.Context(), "tcp", guestIP+":443"); err == nil {
					t.Error("the port is still open")
				}
				failed, ok := stop()
				if len(failed) > 0 || ok == 0 {
					t.Errorf("neighbour: %d requests went well, %d failed: %v", ok, len(failed), failed)
				}
			})
		})
	}
}

// TestWithdrawnComesBack: a closed port opens when its certificate is to be had again, without a word from elb, and at
// once with one.
func TestWithdrawnComesBack(t *testing.T) {
	tests := []struct {
		name   string
		tell   bool
		within time.Duration
	}{
		{"untold", false, 16 * time.Second},
		{"told", true, 500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, httpsListener(443, arnA, "1"))
				l.cloud.set(func() { l.cloud.withdrawn[arnA] = "NotAuthorized" })
				l.listeners(httpsListener(443, arnA, "2"))
				l.guest.expect(time.Second, 1, agent.StageListenerClosed)
				pause(t.Context(), time.Minute)
				l.cloud.set(func() { delete(l.cloud.withdrawn, arnA) })
				if tt.tell {
					l.listeners(httpsListener(443, arnA, "3"))
				}
				l.guest.expect(tt.within, 2, agent.StageServing, "listener=443")
				if got := presented(l.cloud, 443); got != l.a.fingerprint() {
					t.Errorf("serves %q", got)
				}
			})
		})
	}
}

// TestTroubleTakesNothingAway: a cloud that hangs, fails or talks nonsense leaves the certificate of the same ARN in
// use.
func TestTroubleTakesNothingAway(t *testing.T) {
	tests := []struct {
		name   string
		broken func(action string, w http.ResponseWriter, r *http.Request) bool
		reason string
	}{
		{"hangs", hangFor(keydelivery.Action), "timeout"},
		{"500", statusFor(keydelivery.Action, 500, ""), "the cloud answered 500"},
		{"InternalFailure", statusFor(keydelivery.Action, 500, errorBody("InternalFailure")), "refused: InternalFailure"},
		{"no XML", statusFor(keydelivery.Action, 200, "hello"), "malformed answer"},
		{"empty", statusFor(keydelivery.Action, 200, ""), "malformed answer"},
		{"too long", statusFor(keydelivery.Action, 200, strings.Repeat("x", 1<<20)), "malformed answer"},
		{"another's answer", statusFor(keydelivery.Action, 200, otherAnswer), "answer does not verify"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLab(t, httpsListener(443, arnA, "1"))
				l.cloud.set(func() { l.cloud.broken = tt.broken })
				l.listeners(httpsListener(443, arnA, "2"))
				l.guest.expect(time.Minute, 1, agent.StageListenerFailed, "listener=443", "reason="+tt.reason)
				pause(t.Context(), 5*time.Minute)
				if got := presented(l.cloud, 443); got != l.a.fingerprint() {
					t.Errorf("serves %q", got)
				}
				if n := l.guest.console.find(agent.StageListenerFailed); n != 1 {
					t.Errorf("%d failures on the console, want 1 for one reason", n)
				}
				l.cloud.set(func() { l.cloud.broken, l.cloud.users[arnA] = nil, l.b })
				l.guest.expect(time.Minute, 2, agent.StageKeyReceived)
				if got := presented(l.cloud, 443); got != l.b.fingerprint() {
					t.Errorf("serves %q after the trouble", got)
				}
			})
		})
	}
}

// TestListenersComeAndGo changes the set of listeners live.
func TestListenersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, httpsListener(443, arnA, "1"))
		stop := l.keepAsking(t, 443, 50*time.Millisecond)
		l.listeners(httpsListener(443, arnA, "1"), httpListener(80))
		l.guest.expect(time.Second, 1, agent.StageServing, "listener=80", "protocol=HTTP")
		synctest.Wait()
		plain := newClient(t, l.cloud, nil, 80)
		if status, body := plain.get("http://www.example.test/"); status != http.StatusOK || body != "i-1" {
			t.Errorf("port 80 answers %d %s", status, body)
		}
		l.listeners(httpsListener(443, arnA, "1"))
		l.guest.expect(time.Second, 1, agent.StageListenerClosed, "listener=80")
		// A connection that was kept is closed a moment after the port.
		synctest.Wait()
		if status, _ := plain.get("http://www.example.test/"); status != 0 {
			t.Errorf("port 80 answers %d after its listener was deleted", status)
		}
		l.listeners(httpsListener(443, arnA, "1"), httpsListener(80, arnB, "1"))
		l.guest.expect(time.Second, 1, agent.StageServing, "listener=80", "protocol=HTTPS")
		if got := presented(l.cloud, 80); got != l.b.fingerprint() {
			t.Errorf("port 80 serves %q", got)
		}
		nonsense := httpListener(81)
		nonsense.Protocol = "GOPHER"
		l.listeners(httpsListener(443, arnA, "1"), nonsense)
		l.guest.expect(time.Second, 1, agent.StageListenerFailed, "listener=81")
		if failed, ok := stop(); len(failed) > 0 || ok == 0 {
			t.Errorf("neighbour: %d requests went well, %d failed: %v", ok, len(failed), failed)
		}
	})
}

// TestPortInUse: a port that cannot be opened is tried again, and its neighbour serves.
func TestPortInUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, httpListener(80))
		squatter, err := l.cloud.net.Host(guestIP).Listen("tcp", ":443")
		if err != nil {
			t.Fatal(err)
		}
		l.listeners(httpListener(80), httpsListener(443, arnA, "1"))
		l.guest.expect(time.Second, 1, agent.StageListenerFailed, "listener=443", "reason=port cannot be opened")
		if status, _ := newClient(t, l.cloud, nil, 80).get("http://www.example.test/"); status != http.StatusOK {
			t.Errorf("neighbour answers %d", status)
		}
		if err := squatter.Close(); err != nil {
			t.Error(err)
		}
		l.guest.expect(16*time.Second, 1, agent.StageServing, "listener=443")
	})
}

// hangFor makes the cloud take requests of an action and never answer them.
func hangFor(action string) func(string, http.ResponseWriter, *http.Request) bool {
	return func(asked string, _ http.ResponseWriter, r *http.Request) bool {
		if asked != action {
			return false
		}
		<-r.Context().Done()
		return true
	}
}

// statusFor makes the cloud answer requests of an action with this.
func statusFor(action string, status int, body string) func(string, http.ResponseWriter, *http.Request) bool {
	return func(asked string, w http.ResponseWriter, _ *http.Request) bool {
		if asked != action {
			return false
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

func errorBody(code string) string {
	return "<ErrorResponse><Error><Code>" + code + "</Code><Message>m</Message></Error></ErrorResponse>"
}

const otherAnswer = `<euca:DownloadServerCertificateResponseType xmlns:euca="http://msgs.eucalyptus.com/4.0">
<euca:downloadServerCertificateResult><euca:certificateArn>` + arnA + `</euca:certificateArn>
<euca:serverCertificate>QUJD</euca:serverCertificate><euca:serverPk>a.b.c.d.e</euca:serverPk>
<euca:signature>QUJD</euca:signature></euca:downloadServerCertificateResult>
</euca:DownloadServerCertificateResponseType>`
