package agent_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// TestBadMedium: a medium that cannot be used stops the guest with a reason, and without a word of what it holds.
func TestBadMedium(t *testing.T) {
	tests := []struct {
		name   string
		spoil  func(t *testing.T, cloud *fakeCloud, m *keydelivery.Medium) fs.FS
		reason string
	}{
		{"empty", func(*testing.T, *fakeCloud, *keydelivery.Medium) fs.FS { return fstest.MapFS{} }, "bad medium: open"},
		{"truncated", truncated, "bad medium: credential is not the JSON"},
		{"read errors", func(*testing.T, *fakeCloud, *keydelivery.Medium) fs.FS { return brokenFS{} }, "bad medium: open"},
		{"another instance's", otherInstance, "medium is for another instance"},
		{"LBCERT of another cloud", otherCloud, "medium: LBCERT is not signed by IAMCERT"},
		{"no CA", noCA, "medium: configure control client: no certificate in the cloud's CA"},
		{"plain http", plainHTTP, "medium: configure control client: elb endpoint"},
		{"expired", expired, "identity expired"},
		{"from the future", fromTheFuture, "identity is not valid yet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cloud := newCloud(t)
				m := cloud.medium(guestID, time.Now().Add(time.Hour))
				secret := bytes.Clone(m.LBKey)
				g := boot(t, cloud)
				g.insertFiles(tt.spoil(t, cloud, m))
				g.expect(5*time.Second, 1, agent.StagePowerOff)
				if err := <-g.done; err == nil {
					t.Error("RunLBVM returned no error")
				}
				g.console.mu.Lock()
				defer g.console.mu.Unlock()
				last := g.console.lines[len(g.console.lines)-2]
				if reason, _ := last["reason"].(string); last["stage"] != "failed" || !strings.HasPrefix(reason, tt.reason) {
					t.Errorf("the end is told as %v, want the reason %q", last, tt.reason)
				}
				if bytes.Contains(g.console.raw.Bytes(), secret) || strings.Contains(g.console.raw.String(), "PRIVATE") {
					t.Error("the console holds a key")
				}
			})
		})
	}
}

func truncated(t *testing.T, _ *fakeCloud, m *keydelivery.Medium) fs.FS {
	files := filesOf(t, m)
	data := files[keydelivery.CredentialFile].Data
	files[keydelivery.CredentialFile].Data = data[:len(data)/2]
	return files
}

func otherInstance(t *testing.T, cloud *fakeCloud, _ *keydelivery.Medium) fs.FS {
	return filesOf(t, cloud.medium("i-0fedcba9876543210", time.Now().Add(time.Hour)))
}

func otherCloud(t *testing.T, _ *fakeCloud, m *keydelivery.Medium) fs.FS {
	t.Helper()
	other, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	spoiled := *m
	spoiled.IAMCertPEM = other.CertificatePEM()
	return filesOf(t, &spoiled)
}

func noCA(t *testing.T, _ *fakeCloud, m *keydelivery.Medium) fs.FS {
	spoiled := *m
	spoiled.Boot.CAPEM = "none"
	return filesOf(t, &spoiled)
}

func plainHTTP(t *testing.T, _ *fakeCloud, m *keydelivery.Medium) fs.FS {
	spoiled := *m
	spoiled.Boot.Endpoints = map[string]string{"iam": m.Boot.Endpoints["iam"], "elb": "http://" + apiIP}
	return filesOf(t, &spoiled)
}

func expired(t *testing.T, cloud *fakeCloud, _ *keydelivery.Medium) fs.FS {
	return filesOf(t, cloud.medium(guestID, time.Now().Add(time.Nanosecond)))
}

func fromTheFuture(t *testing.T, cloud *fakeCloud, m *keydelivery.Medium) fs.FS {
	t.Helper()
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(time.Hour)
	spoiled := *m
	spoiled.LBKey = text
	spoiled.LBCertPEM, err = cloud.authority.SignLBCert(guestID, key.Public(), begin, begin.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return filesOf(t, &spoiled)
}

type brokenFS struct{}

func (brokenFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("input/output error")}
}

// TestMediumReadAgain: a read error that passes is no reason to stop.
func TestMediumReadAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		g := boot(t, cloud)
		g.insertFiles(brokenFS{})
		g.insert(cloud.medium(guestID, time.Now().Add(time.Hour)))
		g.expect(time.Second, 1, agent.StageMediumRead, "instance="+guestID)
	})
}

// TestEntropyFirst: the medium's entropy reaches the machine before the guest says a word to the network.
func TestEntropyFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		g := boot(t, cloud, func(g *guest, w *agent.World) {
			dial := w.Dial
			w.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				g.mu.Lock()
				seeded := len(g.seeds) == 1
				g.mu.Unlock()
				if !seeded {
					t.Error("the network was used before the seed")
				}
				return dial(ctx, network, address)
			}
		})
		m := cloud.medium(guestID, time.Now().Add(time.Hour))
		m.Boot.Entropy = bytes.Repeat([]byte{7}, keydelivery.EntropySize)
		g.insert(m)
		g.expect(time.Second, 1, agent.StageCredentials)
		g.mu.Lock()
		defer g.mu.Unlock()
		if diff := cmp.Diff([][]byte{m.Boot.Entropy}, g.seeds); diff != "" {
			t.Errorf("seeds (-want +got):\n%s", diff)
		}
	})
}

// TestClock: a guest with a clock far off sets it before it judges validity and signs.
func TestClock(t *testing.T) {
	for name, offset := range map[string]time.Duration{"behind": -20 * 365 * 24 * time.Hour, "ahead": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cloud := newCloud(t)
				cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpListener(80)} })
				g := bootWithMedium(t, cloud, func(g *guest, _ *agent.World) { g.offset = offset })
				g.expect(time.Second, 1, agent.StageServing)
				g.mu.Lock()
				defer g.mu.Unlock()
				if g.offset.Abs() > 2*time.Second {
					t.Errorf("the clock is off by %s", g.offset)
				}
			})
		})
	}
}

// TestIdentityEnds: a guest whose LBCERT ended serves no more.
func TestIdentityEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpListener(80)} })
		g := boot(t, cloud)
		g.insert(cloud.medium(guestID, time.Now().Add(time.Hour)))
		g.expect(time.Second, 1, agent.StageServing)
		pause(t.Context(), 59*time.Minute)
		if n := g.console.find(agent.StageFailed); n > 0 {
			t.Error("the guest ended before its identity")
		}
		g.expect(2*time.Minute, 1, agent.StagePowerOff)
		g.expect(0, 1, agent.StageFailed, "reason=identity expired")
		g.expect(0, 1, agent.StageListenerClosed, "listener=80")
	})
}

// TestIdentityRenewed: a new medium in a running guest lets it go on; one that does not fit changes nothing.
func TestIdentityRenewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		ca := newPair(t, nil, "users' CA", ecdsaKey(t))
		cloud.users[arnA] = newPair(t, ca, "www.example.test", ecdsaKey(t))
		cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpsListener(443, arnA, "1")} })
		g := boot(t, cloud)
		g.insert(cloud.medium(guestID, time.Now().Add(time.Hour)))
		g.expect(time.Second, 1, agent.StageServing)

		g.insert(cloud.medium("i-0fedcba9876543210", time.Now().Add(9*time.Hour)))
		g.media.changed <- struct{}{}
		g.expect(time.Second, 1, agent.StageMediumRefused, "reason=medium is for another instance")

		g.insert(cloud.medium(guestID, time.Now().Add(3*time.Hour)))
		g.media.changed <- struct{}{}
		g.expect(time.Second, 2, agent.StageMediumRead)
		pause(t.Context(), 2*time.Hour)
		if n := g.console.find(agent.StageFailed); n > 0 {
			t.Fatalf("the guest ended: %s", g.console.raw.String())
		}
		// The first LBCERT is past its end: only the second can fetch.
		cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpsListener(443, arnA, "2")} })
		g.expect(time.Second, 2, agent.StageKeyReceived)
		g.expect(2*time.Hour, 1, agent.StageFailed, "reason=identity expired")
	})
}

// TestHangingCloudAtStart: nothing is served before the key came, each listener on its own, and all of it recovers.
func TestHangingCloudAtStart(t *testing.T) {
	tests := []struct {
		name   string
		broken func(string, http.ResponseWriter, *http.Request) bool
	}{
		{"describe hangs", hangFor(servo.DescribeAction)},
		{"describe fails", statusFor(servo.DescribeAction, 503, "")},
		{"describe is nonsense", statusFor(servo.DescribeAction, 200, "<a>")},
		{"download hangs", hangFor(keydelivery.Action)},
		{"download is throttled", statusFor(keydelivery.Action, 400, errorBody("Throttling"))},
		{"reports hang", hangFor(servo.PutAction)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cloud := newCloud(t)
				ca := newPair(t, nil, "users' CA", ecdsaKey(t))
				cloud.users[arnA] = newPair(t, ca, "www.example.test", ecdsaKey(t))
				one := startBackend(cloud, "i-1", "10.64.0.11")
				cloud.set(func() { cloud.broken = tt.broken })
				cloud.change(func(lb *servo.LoadBalancer) {
					lb.Listeners = []servo.Listener{httpListener(80), httpsListener(443, arnA, "1")}
					lb.Backends = []servo.Backend{one.servo()}
				})
				g := bootWithMedium(t, cloud)
				pause(t.Context(), 2*time.Minute)
				if strings.HasPrefix(tt.name, "download") {
					g.expect(0, 1, agent.StageServing, "listener=80")
					if n := g.console.find(agent.StageServing, "listener=443"); n > 0 {
						t.Error("port 443 serves without a key")
					}
				}
				cloud.set(func() { cloud.broken = nil })
				g.expect(40*time.Second, 1, agent.StageServing, "listener=443")
				pause(t.Context(), 40*time.Second)
				if status, body := newClient(t, cloud, ca, 443).get("https://www.example.test/"); status != 200 {
					t.Errorf("answers %d %s", status, body)
				}
				if got := cloud.stateOf("i-1"); got != servo.InService {
					t.Errorf("elb was told %q", got)
				}
			})
		})
	}
}

// TestCredentialsRenewed: short credentials are renewed in time; ones that the cloud forgot are replaced.
func TestCredentialsRenewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		cloud.credentials = 10 * time.Minute
		cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpListener(80)} })
		g := bootWithMedium(t, cloud)
		g.expect(time.Second, 1, agent.StageServing)
		pause(t.Context(), time.Hour)
		cloud.mu.Lock()
		issued := cloud.issued
		cloud.accepted = map[string]bool{}
		cloud.mu.Unlock()
		if issued < 6 || issued > 20 {
			t.Errorf("credentials of 10 minutes were asked for %d times within an hour", issued)
		}
		cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpListener(80), httpListener(81)} })
		g.expect(45*time.Second, 1, agent.StageServing, "listener=81")
	})
}

// TestLongPollIsCalm: a cloud that answers at once though nothing changed is not asked without end.
func TestLongPollIsCalm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpListener(80)} })
		asked := 0
		cloud.broken = func(action string, w http.ResponseWriter, _ *http.Request) bool {
			if action != servo.DescribeAction {
				return false
			}
			cloud.mu.Lock()
			defer cloud.mu.Unlock()
			asked++
			body, err := cloud.description.MarshalXMLBody("r")
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(body)
			return true
		}
		g := bootWithMedium(t, cloud)
		g.expect(time.Second, 1, agent.StageServing)
		pause(t.Context(), time.Minute)
		cloud.mu.Lock()
		defer cloud.mu.Unlock()
		if asked < 6 || asked > 15 {
			t.Errorf("asked %d times in a minute", asked)
		}
	})
}

// TestNoSecretLeaves: neither key nor role secret is on the console, whatever happens.
func TestNoSecretLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, httpsListener(443, arnA, "1"))
		l.cloud.set(func() { l.cloud.withdrawn[arnA] = "NotAuthorized" })
		l.listeners(httpsListener(443, arnA, "2"))
		l.guest.expect(time.Second, 1, agent.StageListenerClosed)
		text := l.guest.console.raw.String()
		key := string(l.a.keyPEM(t))
		for _, secret := range []string{secretKey, token, key, base64.StdEncoding.EncodeToString([]byte(key)), "PRIVATE"} {
			if strings.Contains(text, secret) {
				t.Errorf("the console holds a secret")
			}
		}
	})
}

// TestStopped: the end of the context ends the guest in good order.
func TestStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, httpsListener(443, arnA, "1"))
		l.guest.stop()
		if err := <-l.guest.done; err != nil {
			t.Errorf("RunLBVM returned %v", err)
		}
		l.guest.expect(0, 1, agent.StageListenerClosed)
		l.guest.expect(0, 1, agent.StagePowerOff)
		if n := l.guest.console.find(agent.StageFailed); n > 0 {
			t.Error("an ordered end was told as a failure")
		}
		synctest.Wait()
	})
}

// TestWorldValidate names everything that is missing.
func TestWorldValidate(t *testing.T) {
	err := agent.RunLBVM(t.Context(), agent.World{})
	for _, part := range []string{"medium", "dialer", "listener", "clock"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not name the %s", err, part)
		}
	}
	if err := agent.RunWeb(t.Context(), agent.World{}); err == nil {
		t.Error("RunWeb took an empty world")
	}
}
