package node

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func TestRenewsWhenAThirdIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAuthority(t), t.TempDir()
		a.enrol(dir)
		first := a.present
		r := a.process(dir)
		defer run(r)()
		time.Sleep(life*2/3 - time.Minute)
		if synctest.Wait(); a.asks.Load() != 0 {
			t.Errorf("asked %d times with more than a third left", a.asks.Load())
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if a.present.Equal(first) || a.used.Load() != 1 {
			t.Error("not renewed with a third left")
		}
		a.wantPresent(r, "after the renewal")
		if got := files(t, dir); got != "cloud-ca.crt node.crt node.key node.old-2.key" {
			t.Errorf("the folder holds %s", got)
		}
		if keys := r.ring.keys(); len(keys) != 2 || !keys[0].PublicKey.Equal(a.present.PublicKey) ||
			!keys[1].PublicKey.Equal(first.PublicKey) {
			t.Errorf("%d keys, or in another order", len(keys))
		}
		time.Sleep(2 * keyGrace)
		synctest.Wait()
		if got := files(t, dir); got != "cloud-ca.crt node.crt node.key" {
			t.Errorf("after the grace the folder holds %s", got)
		}
		time.Sleep(life * 2 / 3)
		if synctest.Wait(); a.used.Load() != 2 {
			t.Errorf("%d renewals in twice the time", a.used.Load())
		}
	})
}

func TestRenewsWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAuthority(t), t.TempDir()
		a.enrol(dir)
		r := a.process(dir)
		defer run(r)()
		for n := range 3 {
			r.wake()
			synctest.Wait()
			if a.used.Load() != int64(n+1) {
				t.Errorf("%d renewals, want %d", a.used.Load(), n+1)
			}
			a.wantPresent(r, "after a wish")
		}
	})
}

func TestOldKeysStayWhileTheyAreNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAuthority(t), t.TempDir()
		a.enrol(dir)
		first := a.present
		r := a.process(dir)
		var spare atomic.Bool
		r.needs = func(key *ecdsa.PrivateKey) bool { return !spare.Load() && key.PublicKey.Equal(first.PublicKey) }
		stop := run(r)
		for range 2 {
			r.wake()
			synctest.Wait()
		}
		time.Sleep(3 * keyGrace)
		synctest.Wait()
		holds := func(r *renewer) bool {
			return slices.ContainsFunc(r.ring.keys(), func(k *ecdsa.PrivateKey) bool {
				return k.PublicKey.Equal(first.PublicKey)
			})
		}
		if got := files(t, dir); !holds(r) || got != "cloud-ca.crt node.crt node.key node.old-2.key" {
			t.Errorf("a key that is needed is gone; the folder holds %s", got)
		}
		stop()
		needs := r.needs
		r = a.process(dir)
		r.needs = needs
		defer run(r)()
		if synctest.Wait(); !holds(r) {
			t.Error("the next process does not know it")
		}
		spare.Store(true)
		time.Sleep(2 * keyGrace)
		if synctest.Wait(); holds(r) {
			t.Error("a key that nobody needs is still there")
		}
	})
}

// The cloud is away, or its answers are lost, at each point of a renewal.
func TestRenewalOutlivesTheCloudsAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAuthority(t), t.TempDir()
		a.enrol(dir)
		r := a.process(dir)
		defer run(r)()
		for name, trouble := range map[string]*atomic.Bool{"away": &a.away, "deaf": &a.deaf} {
			before, used := a.present, a.used.Load()
			trouble.Store(true)
			r.wake()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if present, _ := r.ring.now(); !present.cert.Equal(before) {
				t.Errorf("%s: the node uses a certificate that the cloud did not take", name)
			}
			if a.asks.Load() > 30 {
				t.Errorf("%s: asked %d times in five minutes", name, a.asks.Load())
			}
			trouble.Store(false)
			time.Sleep(2 * longRenewPause)
			if synctest.Wait(); a.used.Load() != used+1 {
				t.Errorf("%s: %d renewals once it answers", name, a.used.Load()-used)
			}
			a.wantPresent(r, name)
			a.asks.Store(0)
		}
	})
}

// An offer that ended while the node was away is forgotten, and another asked for.
func TestRenewalAfterAnOfferEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAuthority(t), t.TempDir()
		a.enrol(dir)
		r := a.process(dir)
		_, csr, err := r.ring.prepare()
		if err != nil {
			t.Fatal(err)
		}
		certPEM, err := a.ask(t.Context(), csr)
		if err != nil {
			t.Fatal(err)
		}
		next, err := r.ring.accept(certPEM)
		if err != nil {
			t.Fatal(err)
		}
		a.next = nil // the offer ends
		r = a.process(dir)
		defer run(r)()
		time.Sleep(time.Minute)
		synctest.Wait()
		a.wantPresent(r, "after another offer")
		if a.present.Equal(next.cert) || a.used.Load() != 1 {
			t.Errorf("%d renewals", a.used.Load())
		}
	})
}

func TestARefusalDuringARenewal(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	a.enrol(dir)
	r := a.process(dir)
	old := a.present
	refused := &nodelink.RefusedError{Reason: nodelink.ReasonReplaced, Serial: serialOf(old), Detail: "another"}
	if err := r.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := r.refused(t.Context(), refused); !again || err != nil {
		t.Errorf("of the certificate before: again %t, %v", again, err)
	}
	refused.Serial = serialOf(a.present)
	if again, err := r.refused(t.Context(), refused); again || !errors.Is(err, ErrIdentity) ||
		!strings.Contains(err.Error(), "node remove node-1") {
		t.Errorf("of the only certificate: again %t, %v", again, err)
	}
	refused.Reason = nodelink.ReasonUnknown
	if again, err := r.refused(t.Context(), refused); again || err != nil {
		t.Errorf("by a cloud that does not know the node: again %t, %v; want another try later", again, err)
	}
	// The process before ended when the cloud had taken the next one.
	_, csr, err := r.ring.prepare()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err := a.ask(t.Context(), csr)
	if err != nil {
		t.Fatal(err)
	}
	next, err := r.ring.accept(certPEM)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.show(t.Context(), next, csr); err != nil {
		t.Fatal(err)
	}
	refused.Reason = nodelink.ReasonReplaced
	if again, err := r.refused(t.Context(), refused); !again || err != nil {
		t.Errorf("while the next one is in force: again %t, %v", again, err)
	}
	a.wantPresent(r, "after that")
}

func TestANodesCertificateIsChecked(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	a.enrol(dir)
	r := a.process(dir)
	if _, _, err := r.ring.prepare(); err != nil {
		t.Fatal(err)
	}
	next := r.ring.next.key
	stranger := newAuthority(t)
	for name, cert := range map[string]*x509.Certificate{
		"another key": a.sign(newKey(t), "node-1"), "another name": a.sign(next, "node-2"),
		"another CA": stranger.sign(next, "node-1"),
	} {
		if _, err := r.ring.accept(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := r.ring.accept([]byte("x")); err == nil {
		t.Error("no PEM: accepted")
	}
	if _, err := os.Stat(filepath.Join(dir, nextCertFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused certificate was kept: %v", err)
	}
}

// An identity that ended says what to do, and one whose next is good goes on with that.
func TestExpiredIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAuthority(t), t.TempDir()
		a.enrol(dir)
		time.Sleep(life / 2)
		r := a.process(dir)
		_, csr, err := r.ring.prepare()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.ask(t.Context(), csr); err != nil {
			t.Fatal(err)
		}
		time.Sleep(life*2/3 + time.Hour)
		_, err = loadOrEnrol(t.Context(), Config{Dir: dir})
		if !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "cloudtwin node remove node-1") {
			t.Errorf("an identity that ended: %v", err)
		}
		if _, err := r.ring.accept(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.next.Raw})); err != nil {
			t.Fatal(err)
		}
		ring, err := loadOrEnrol(t.Context(), Config{Dir: dir})
		if err != nil {
			t.Fatalf("with a good one that was not used: %v", err)
		}
		if present, _ := ring.now(); !present.cert.Equal(a.next) {
			t.Error("the one that ended is still the present one")
		}
	})
}

// A node whose certificate ended while it ran says so: TLS refuses it, and the cloud does not tell why.
func TestALinkThatEndedWithTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newAuthority(t), t.TempDir()
		a.enrol(dir)
		var told error
		n := &Node{ring: a.process(dir).ring}
		tell := n.onLink(Config{OnLink: func(err error) { told = err }})
		if tell(errAway); !errors.Is(told, errAway) || errors.Is(told, ErrIdentity) {
			t.Errorf("while the certificate is good: %v", told)
		}
		time.Sleep(life + time.Hour)
		if tell(errAway); !errors.Is(told, ErrIdentity) || !strings.Contains(told.Error(), "cloudtwin node remove node-1") {
			t.Errorf("after its end: %v", told)
		}
		if tell(nil); told != nil {
			t.Errorf("connected: %v", told)
		}
	})
}

func TestForgottenIdentity(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	a.enrol(dir)
	r := a.process(dir)
	if err := r.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.ring.prepare(); err != nil {
		t.Fatal(err)
	}
	if err := r.ring.forget("node-1 was removed: its disk fails"); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); got != "cloud-ca.crt removed" {
		t.Errorf("the folder holds %s", got)
	}
	_, err := loadOrEnrol(t.Context(), Config{Dir: dir})
	if !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "its disk fails") ||
		!strings.Contains(err.Error(), "new enrolment token") {
		t.Errorf("started again: %v", err)
	}
	a.enrol(dir)
	if got := files(t, dir); got != "cloud-ca.crt node.crt node.key" {
		t.Errorf("enrolled anew, the folder holds %s", got)
	}
}
