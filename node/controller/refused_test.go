package controller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// running is a controller whose end a test awaits.
func (w *world) running(change func(*Config)) (c *Controller, ended <-chan error, stop func()) {
	w.t.Helper()
	w.change = change
	cfg := Config{
		NodeID: nodeID, Keys: w.keys, Driver: w.driver, Network: w.network, Cloud: w.cloud,
		Images: w.dir + "/images", Dir: w.dir + "/node", SocketDir: w.dir + "/net", MediaDir: w.media, ColdBoots: 4,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx)
		close(done)
	}()
	synctest.Wait()
	return c, done, func() {
		cancel()
		for range done {
		}
	}
}

// A node that was removed ends its guests, with their media, and then itself, however it hears of it.
func TestRemovedNodeEndsItsGuests(t *testing.T) {
	removed := &nodelink.RefusedError{Reason: nodelink.ReasonRemoved, Detail: "node-1 was removed: its disk fails"}
	for name, before := range map[string]func(w *world){
		"while it is connected": func(*world) {},
		"while the cloud is away": func(w *world) {
			w.cloud.cut(true)
			pass(time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				_, ended, stop := w.running(nil)
				defer stop()
				vm, web := w.lbvm(), w.instance("web")
				w.cloud.run(vm, web)
				pass(time.Second)
				w.wantState(vm.GetId(), stateRunning)
				w.wantState(web.GetId(), stateRunning)
				if media, _ := os.ReadDir(w.media); len(media) != 1 {
					t.Fatalf("%d media", len(media))
				}
				before(w)
				w.cloud.refuse(removed)
				pass(10 * time.Second)
				select {
				case err := <-ended:
					if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), "its disk fails") {
						t.Errorf("it ended with %v", err)
					}
				default:
					t.Fatal("it runs")
				}
				if left, err := w.driver.List(t.Context()); err != nil || len(left) != 0 {
					t.Errorf("guests that are left: %v, %v", left, err)
				}
				if media, _ := os.ReadDir(w.media); len(media) != 0 {
					t.Errorf("media that are left: %v", media)
				}
				if ports := w.network.ports(); len(ports) != 0 {
					t.Errorf("ports that are left: %v", ports)
				}
				if machines, _ := os.ReadDir(w.dir + "/node/machines"); len(machines) != 0 {
					t.Errorf("records that are left: %v", machines)
				}
			})
		})
	}
}

// Any other refusal costs no guest its life.
func TestOtherRefusalsEndNoGuest(t *testing.T) {
	errOther := errors.New("used elsewhere")
	for _, tt := range []struct {
		name   string
		reason nodelink.Reason
		says   error
		again  bool
	}{
		{name: "unknown to the cloud", reason: nodelink.ReasonUnknown},
		{name: "expired", reason: nodelink.ReasonExpired},
		{name: "replaced, by this node", reason: nodelink.ReasonReplaced, again: true},
		{name: "replaced, by another", reason: nodelink.ReasonReplaced, says: errOther},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				var asked []nodelink.Reason
				_, ended, stop := w.running(func(c *Config) {
					c.OnRefused = func(_ context.Context, r *nodelink.RefusedError) (bool, error) {
						asked = append(asked, r.Reason)
						if tt.again {
							w.cloud.refuse(nil)
						}
						return tt.again, tt.says
					}
				})
				defer stop()
				inst := w.instance("web")
				w.cloud.run(inst)
				pass(time.Second)
				w.wantState(inst.GetId(), stateRunning)
				w.driver.machine(inst.GetId()).say(t, stage("booted", 1))
				pass(time.Second)
				syncs := w.cloud.syncs
				w.cloud.refuse(&nodelink.RefusedError{Reason: tt.reason})
				synctest.Wait()
				if tt.again && w.cloud.syncs != syncs+1 {
					t.Errorf("%d connections at once, want one", w.cloud.syncs-syncs)
				}
				pass(time.Minute)
				select {
				case err := <-ended:
					if tt.says == nil || !errors.Is(err, tt.says) {
						t.Errorf("it ended with %v", err)
					}
				default:
					if tt.says != nil {
						t.Error("it runs")
					}
				}
				if len(asked) == 0 || asked[0] != tt.reason {
					t.Errorf("asked about %v", asked)
				}
				if w.driver.machine(inst.GetId()) == nil {
					t.Error("its guest is gone")
				}
			})
		})
	}
}

// The node tells of its connection when that changes, not at every attempt.
func TestTheLinkIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var told []string
		w.cloud.away = true
		c, _, stop := w.running(func(c *Config) {
			c.OnLink = func(err error) {
				if err != nil {
					told = append(told, "lost")
				} else {
					told = append(told, "made")
				}
			}
		})
		defer stop()
		pass(time.Minute)
		w.cloud.mu.Lock()
		w.cloud.away = false
		w.cloud.mu.Unlock()
		pass(time.Minute)
		syncs := w.cloud.syncs
		c.Reconnect() // on this node's own wish: nobody needs to know
		pass(time.Minute)
		if w.cloud.syncs != syncs+1 {
			t.Errorf("%d connections for one wish", w.cloud.syncs-syncs)
		}
		w.cloud.cut(true)
		pass(time.Minute)
		if got := strings.Join(told, " "); got != "lost made lost" {
			t.Errorf("told %s", got)
		}
	})
}

func TestTheCloudAsksToRenew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		asked := 0
		_, _, stop := w.running(func(c *Config) { c.OnRenew = func() { asked++ } })
		defer stop()
		w.cloud.stream.out <- &nodelink.Desired{RenewCertificate: true}
		if synctest.Wait(); asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// A credential may be sealed to the key before, which is needed until its medium is gone.
func TestOldKeysOpenWhatWasSealedToThem(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c, _, stop := w.running(nil)
		defer stop()
		old := w.key
		inst := w.lbvm() // sealed to it
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.key, w.oldKeys = key, []*ecdsa.PrivateKey{old}
		w.cloud.run(inst)
		pass(time.Second)
		w.wantState(inst.GetId(), stateRunning)
		if medium := w.readMedium(inst.GetId()); medium.Boot.InstanceID != inst.GetId() {
			t.Errorf("medium of %s", medium.Boot.InstanceID)
		}
		if !c.Needs(old) || c.Needs(key) {
			t.Errorf("while the medium is there: the old key is needed %t, the new one %t", c.Needs(old), c.Needs(key))
		}
		w.driver.machine(inst.GetId()).say(t, stage("booted", 1), stage("medium-read", 2, "instance", inst.GetId()))
		pass(time.Second)
		if c.Needs(old) {
			t.Error("the old key is needed though the medium is gone for good")
		}
		// Nobody's key opens nothing.
		stranger := w.lbvm()
		stranger.Credential = w.credential("node-2", stranger.GetId())
		w.cloud.run(stranger)
		pass(time.Second)
		w.wantState(stranger.GetId(), stateFailed)
	})
}

// A node may be asked to end before it has begun, by whoever started it and thought better of it.
func TestEndsWhileItBegins(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c, err := New(Config{
			NodeID: nodeID, Keys: w.keys, Driver: w.driver, Network: w.network, Cloud: w.cloud,
			Images: w.dir + "/images", Dir: w.dir + "/node2", SocketDir: w.dir + "/net2", MediaDir: w.media, ColdBoots: 4,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(ctx); err != nil {
			t.Errorf("it was asked to end, and says: %v", err)
		}
	})
}
