package model

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// TestProduct makes random calls on the real packages and compares every answer with what the protocol says, in a
// world like the model's: two load balancers, two certificates, LBVMs that come and go, and requests that are honest,
// stale, altered, replayed, or sent with another one's session or LBCERT.
func TestProduct(t *testing.T) {
	// A failure prints the seed that plays it again; no file is left in the tree.
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		t.Fatal(err)
	}
	p := newProduct(t)
	pairs := []*pki.Pair{newPair(t), newPair(t)}
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		w := &walk{p: p, pairs: pairs, prefix: fmt.Sprintf("r%d", round), balancers: map[string]*balancer{},
			certificates: map[string]int{}}
		defer w.clean(t)
		t.Repeat(rapid.StateMachineActions(w))
	})
}

// balancer is what a load balancer should be.
type balancer struct {
	role      int // number of the role's incarnation, of all load balancers
	listeners map[int64]string
	guest     *holder
}

// holder is a guest and what its sessions are of.
type holder struct {
	*guest
	balancer string
	role     int
	live     bool
}

// walk is a random walk with the answers that it expects.
type walk struct {
	p            *product
	pairs        []*pki.Pair
	prefix       string
	balancers    map[string]*balancer
	certificates map[string]int // name to the number of the pair behind it
	holders      []*holder
	roles        int
	sent         *sent
}

// sent is the last request that was answered, for sending it again.
type sent struct {
	by      *holder
	request *keydelivery.Request
}

func (w *walk) name(kind string, t *rapid.T) string {
	return w.prefix + kind + rapid.SampledFrom([]string{"a", "b"}).Draw(t, kind)
}

func arnOf(name string) string { return "arn:aws:iam::" + userAccount + ":server-certificate/" + name }

func want(t *rapid.T, what string, err error, expected string) {
	t.Helper()
	if got := code(err); got != expected {
		t.Fatalf("%s: answer %q (%v), want %q", what, got, err, expected)
	}
}

// Check is run after every action.
func (w *walk) Check(*rapid.T) {}

// used reports whether a listener names the certificate.
func (w *walk) used(certificate string) bool {
	for _, b := range w.balancers {
		for _, name := range b.listeners {
			if name == certificate {
				return true
			}
		}
	}
	return false
}

// Upload uploads a certificate, with whichever key.
func (w *walk) Upload(t *rapid.T) {
	name, pair := w.name("c", t), rapid.IntRange(0, 1).Draw(t, "pair")
	_, err := w.p.upload(name, "/", w.pairs[pair])
	if _, there := w.certificates[name]; there {
		want(t, "upload "+name, err, "EntityAlreadyExists")
		return
	}
	want(t, "upload "+name, err, "")
	w.certificates[name] = pair
}

// Remove deletes a certificate.
func (w *walk) Remove(t *rapid.T) {
	name := w.name("c", t)
	_, err := w.p.iam.DeleteServerCertificate(user(), &iammodel.DeleteServerCertificateInput{ServerCertificateName: &name})
	_, there := w.certificates[name]
	switch {
	case !there:
		want(t, "delete "+name, err, "NoSuchEntity")
	case w.used(name):
		want(t, "delete "+name, err, "DeleteConflict")
	default:
		want(t, "delete "+name, err, "")
		delete(w.certificates, name)
	}
}

// Create makes a load balancer and takes its LBVM's identity.
func (w *walk) Create(t *rapid.T) {
	name, certificate := w.name("b", t), w.name("c", t)
	err := w.p.create(name, arnOf(certificate))
	if _, there := w.certificates[certificate]; !there {
		want(t, "create "+name, err, "CertificateNotFound")
		return
	}
	if w.balancers[name] != nil {
		want(t, "create "+name, err, "DuplicateLoadBalancerName")
		return
	}
	want(t, "create "+name, err, "")
	w.roles++
	w.balancers[name] = &balancer{role: w.roles, listeners: map[int64]string{443: certificate}}
	w.arrive(t, name)
}

// arrive waits for the load balancer's LBVM.
func (w *walk) arrive(t *rapid.T, name string) {
	b := w.balancers[name]
	b.guest = &holder{guest: w.p.newGuest(t, name), balancer: name, role: b.role, live: true}
	w.holders = append(w.holders, b.guest)
}

// Set changes the certificate of a listener.
func (w *walk) Set(t *rapid.T) {
	name, certificate := w.name("b", t), w.name("c", t)
	port := rapid.SampledFrom([]int64{443, 8443}).Draw(t, "port")
	err := w.p.setCertificate(name, port, arnOf(certificate))
	b := w.balancers[name]
	_, there := w.certificates[certificate]
	switch {
	case b == nil:
		want(t, "set "+name, err, "LoadBalancerNotFound")
	case b.listeners[port] == "":
		want(t, "set "+name, err, "ListenerNotFound")
	case !there:
		want(t, "set "+name, err, "CertificateNotFound")
	default:
		want(t, "set "+name, err, "")
		b.listeners[port] = certificate
	}
}

// Open adds a listener, Close removes one.
func (w *walk) Open(t *rapid.T) {
	name, certificate := w.name("b", t), w.name("c", t)
	err := w.p.addListener(name, 8443, arnOf(certificate))
	b := w.balancers[name]
	_, there := w.certificates[certificate]
	switch {
	case b == nil:
		want(t, "open "+name, err, "LoadBalancerNotFound")
	case b.listeners[8443] == certificate:
		want(t, "open "+name, err, "")
	case b.listeners[8443] != "":
		want(t, "open "+name, err, "DuplicateListener")
	case !there:
		want(t, "open "+name, err, "CertificateNotFound")
	default:
		want(t, "open "+name, err, "")
		b.listeners[8443] = certificate
	}
}

// Close removes a listener.
func (w *walk) Close(t *rapid.T) {
	name, port := w.name("b", t), rapid.SampledFrom([]int64{443, 8443}).Draw(t, "port")
	err := w.p.deleteListener(name, port)
	if b := w.balancers[name]; b != nil {
		want(t, "close "+name, err, "")
		delete(b.listeners, port)
		return
	}
	want(t, "close "+name, err, "LoadBalancerNotFound")
}

// Delete removes a load balancer.
func (w *walk) Delete(t *rapid.T) {
	name := w.name("b", t)
	want(t, "delete "+name, w.p.delete(name), "")
	if b := w.balancers[name]; b != nil {
		b.guest.live = false
		delete(w.balancers, name)
	}
}

// Terminate ends an LBVM; elb makes another.
func (w *walk) Terminate(t *rapid.T) {
	name := w.name("b", t)
	b := w.balancers[name]
	if b == nil {
		t.Skip("no such load balancer")
	}
	check(t, w.p.ec2.Terminate(user(), systemAccount, b.guest.id))
	b.guest.live = false
	w.arrive(t, name)
}

// Revoke withdraws an LBVM's identity; elb makes another.
func (w *walk) Revoke(t *rapid.T) {
	name := w.name("b", t)
	b := w.balancers[name]
	if b == nil {
		t.Skip("no such load balancer")
	}
	_, err := w.p.ec2.Revoke(user(), b.guest.id, "the walk", "it was drawn")
	check(t, err)
	b.guest.live = false
	w.arrive(t, name)
}

// Mint asks for another session of a guest that may have ended.
func (w *walk) Mint(t *rapid.T) {
	h := w.holder(t, "guest")
	if err := w.p.mint(h.guest); (err == nil) != h.live {
		t.Fatalf("session of %s, live %t: %v", h.id, h.live, err)
	}
}

func (w *walk) holder(t *rapid.T, label string) *holder {
	if len(w.holders) == 0 {
		t.Skip("nobody is there")
	}
	// The newest are the most likely to be let in.
	recent := w.holders[max(0, len(w.holders)-4):]
	return rapid.SampledFrom(recent).Draw(t, label)
}

// Ask sends a request and expects what the nine checks say in their order.
func (w *walk) Ask(t *rapid.T) {
	by, identity, certificate := w.holder(t, "session"), w.holder(t, "identity"), w.name("c", t)
	kind := rapid.SampledFrom([]string{"honest", "honest", "honest", "stale", "future", "altered"}).Draw(t, "kind")
	if rapid.Bool().Draw(t, "own identity") {
		identity = by
	}
	at := time.Now()
	switch kind {
	case "stale":
		at = at.Add(-keydelivery.MaxAge - 2*time.Second)
	case "future":
		at = at.Add(keydelivery.MaxAhead + 5*time.Second)
	}
	r, err := keydelivery.NewRequest(arnOf(certificate), identity.identity, at)
	check(t, err)
	if kind == "altered" {
		r.Nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	}
	answer, err := w.p.send(by.sessions[len(by.sessions)-1], r)
	expected := w.expect(by, identity, certificate, kind)
	want(t, fmt.Sprintf("%s request of %s with LBCERT of %s for %s", kind, by.id, identity.id, certificate), err, expected)
	if expected != "" {
		return
	}
	opened, err := r.Open(answer, w.p.iam.IAMCertificatePEM(), identity.identity)
	check(t, err)
	if got, sent := string(opened.Key), string(w.pairs[w.certificates[certificate]].KeyPEM); got != sent {
		t.Fatalf("the key of %s is another one", certificate)
	}
	w.sent = &sent{by: by, request: r}
}

// expect is the code of the answer, empty for a delivery.
func (w *walk) expect(by, identity *holder, certificate, kind string) string {
	b := w.balancers[by.balancer]
	switch {
	case b == nil || b.role != by.role:
		return "InvalidClientTokenId"
	case !identity.live, identity != by, kind != "honest":
		return "NotAuthorized"
	case !slices.Contains(slices.Collect(maps.Values(b.listeners)), certificate):
		return "NotAuthorized"
	}
	return ""
}

// Replay sends the last request that was answered again.
func (w *walk) Replay(t *rapid.T) {
	if w.sent == nil {
		t.Skip("nothing was answered yet")
	}
	_, err := w.p.send(w.sent.by.sessions[0], w.sent.request)
	expected := "NotAuthorized"
	if b := w.balancers[w.sent.by.balancer]; b == nil || b.role != w.sent.by.role {
		expected = "InvalidClientTokenId"
	}
	want(t, "replay", err, expected)
}

// clean removes what the walk made.
func (w *walk) clean(t *rapid.T) {
	for name := range w.balancers {
		check(t, w.p.delete(name))
	}
	for name := range w.certificates {
		_, err := w.p.iam.DeleteServerCertificate(user(),
			&iammodel.DeleteServerCertificateInput{ServerCertificateName: &name})
		check(t, err)
	}
}
