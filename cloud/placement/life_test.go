package placement_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// kinds are the kinds of the journal's events about a node since the nth, in order.
func (f *fixture) kinds(since int) string {
	var kinds []string
	for _, ev := range f.journal.Events()[since:] {
		kinds = append(kinds, ev.Kind)
	}
	return strings.Join(kinds, " ")
}

func (f *fixture) wantRefused(t *testing.T, when string, cert *x509.Certificate, want nodelink.Reason) {
	t.Helper()
	if err := f.Authenticate(t.Context(), cert.Subject.CommonName, cert); reason(err) != want {
		t.Errorf("%s: %v, want %s", when, err, want)
	}
}

func (f *fixture) wantGood(t *testing.T, when string, cert *x509.Certificate) {
	t.Helper()
	if err := f.Authenticate(t.Context(), cert.Subject.CommonName, cert); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

func (f *fixture) sealedTo(t *testing.T, id string) *x509.Certificate {
	t.Helper()
	cert, err := f.Certificate(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (f *fixture) renew(t *testing.T, present *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	id := present.Subject.CommonName
	next, err := f.Renew(t.Context(), id, present, request(t, key, id))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestRenewalOverlaps(t *testing.T) {
	f := start(t, nil)
	ctx := t.Context()
	first := f.addNode(t, "node-1", placement.Status{})
	if err := f.AskRenewal(ctx, "node-1"); err != nil {
		t.Fatal(err)
	}
	begun, key := len(f.journal.Events()), newKey(t)
	second := f.renew(t, first, key)
	if !key.PublicKey.Equal(second.PublicKey) || second.Subject.CommonName != "node-1" {
		t.Errorf("the next one is %v", second.Subject)
	}
	f.wantGood(t, "the present one, while the next was not used", first)
	if !f.sealedTo(t, "node-1").Equal(first) {
		t.Error("credentials are sealed to a key that the node has not shown to have")
	}
	if again := f.renew(t, first, key); !again.Equal(second) {
		t.Error("asking again for the same key gave another certificate")
	}
	f.wantGood(t, "the next one", second)
	f.wantRefused(t, "the one before", first, nodelink.ReasonReplaced)
	if !f.sealedTo(t, "node-1").Equal(second) {
		t.Error("credentials are not sealed to the certificate that the node connected with")
	}
	if n, _ := f.Node("node-1"); !n.RenewalAsked.IsZero() || n.NextDER != nil {
		t.Errorf("what is left of the renewal: asked %v, next %d bytes", n.RenewalAsked, len(n.NextDER))
	}
	if again := f.renew(t, second, key); !again.Equal(second) {
		t.Error("asking for the key of the present one gave another certificate")
	}
	if _, err := f.Renew(ctx, "node-1", first, request(t, newKey(t), "node-1")); reason(err) != nodelink.ReasonReplaced {
		t.Errorf("renewing with the one before: %v", err)
	}
	if got := f.kinds(begun); got != "node.certificate_offered node.certificate_renewed" {
		t.Errorf("journal: %s", got)
	}
}

// A node that was away for long after it asked may not have the answer: the present one goes on.
func TestAnOfferEnds(t *testing.T) {
	f := start(t, nil)
	first := f.addNode(t, "node-1", placement.Status{})
	key := newKey(t)
	lost := f.renew(t, first, key)
	f.clock.Add(25 * time.Hour)
	f.wantRefused(t, "an offer of yesterday", lost, nodelink.ReasonReplaced)
	f.wantGood(t, "the present one", first)
	next := f.renew(t, first, key)
	if next.Equal(lost) {
		t.Error("an offer that ended was made again as it was")
	}
	f.wantGood(t, "the new offer", next)
}

// One that asks with other keys, since it lost them, gets what it asks for; only the last counts.
func TestTheLastOfferCounts(t *testing.T) {
	f := start(t, nil)
	first := f.addNode(t, "node-1", placement.Status{})
	lost := f.renew(t, first, newKey(t))
	next := f.renew(t, first, newKey(t))
	f.wantRefused(t, "an offer that another followed", lost, nodelink.ReasonReplaced)
	f.wantGood(t, "the last offer", next)
}

func TestRenewRefuses(t *testing.T) {
	f := start(t, nil)
	ctx := t.Context()
	cert := f.addNode(t, "node-1", placement.Status{})
	f.addNode(t, "node-2", placement.Status{})
	before, _ := f.Node("node-1")
	broken := request(t, newKey(t), "node-1")
	broken[len(broken)-1] ^= 1
	for name, csr := range map[string][]byte{
		"for another name": request(t, newKey(t), "node-2"), "broken": broken, "none": nil,
	} {
		if _, err := f.Renew(ctx, "node-1", cert, csr); !errors.Is(err, placement.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.Renew(ctx, "node-2", cert, request(t, newKey(t), "node-2")); reason(err) != nodelink.ReasonReplaced {
		t.Errorf("as another node: %v", err)
	}
	if _, err := f.Renew(ctx, "ghost", cert, request(t, newKey(t), "ghost")); !errors.Is(err, placement.ErrNoNode) {
		t.Errorf("as nobody: %v", err)
	}
	if err := f.AskRenewal(ctx, "ghost"); !errors.Is(err, placement.ErrNoNode) {
		t.Errorf("asking nobody: %v", err)
	}
	if after, _ := f.Node("node-1"); after.Version != before.Version {
		t.Error("a refused renewal changed the record")
	}
}

func TestRemovedForGood(t *testing.T) {
	f := start(t, nil)
	ctx := t.Context()
	status := placement.Status{MemoryMBTotal: 1000, MemoryMBFree: 1000, Cores: 4}
	cert := f.addNode(t, "node-1", status)
	next := f.renew(t, cert, newKey(t))
	f.addNode(t, "node-2", status)
	need := placement.Need{MemoryMB: 96, VCPUs: 1}
	do := func(change func(tx *store.Tx) error) error { return f.store.Txn(ctx, change) }
	if err := do(func(tx *store.Tx) error { return f.Reserve(tx, "node-1", need) }); err != nil {
		t.Fatal(err)
	}
	wake, stop := f.Follow("node-1")
	defer stop()
	begun := len(f.journal.Events())
	if err := f.Remove(ctx, "node-1", "uid 0", "its disk fails"); err != nil {
		t.Fatal(err)
	}
	<-wake
	f.wantRefused(t, "its NODECERT", cert, nodelink.ReasonRemoved)
	f.wantRefused(t, "the next, which it had not used", next, nodelink.ReasonRemoved)
	if err := f.Authenticate(ctx, "node-1", cert); !strings.Contains(err.Error(), "its disk fails") {
		t.Errorf("it is not told why: %v", err)
	}
	ev := f.journal.Events()[begun]
	if ev.Kind != "node.removed" || ev.Attributes["by"] != "uid 0" || ev.Attributes["reason"] != "its disk fails" {
		t.Errorf("journal: %+v", ev)
	}
	if _, err := f.Certificate(ctx, "node-1"); !errors.Is(err, placement.ErrNoNode) {
		t.Errorf("to seal for it: %v", err)
	}
	choices, err := f.Plan(ctx, need, 20)
	if err != nil || slices.ContainsFunc(choices, func(c placement.Choice) bool { return c.NodeID == "node-1" }) {
		t.Errorf("plan: %v, %v", choices, err)
	}
	if err := do(func(tx *store.Tx) error {
		return f.Reserve(tx, "node-1", need)
	}); !errors.Is(err, placement.ErrNoCapacity) {
		t.Errorf("a launch that had chosen it: %v", err)
	}
	if err := f.Report(ctx, "node-1", nil); !errors.Is(err, placement.ErrNoNode) {
		t.Errorf("its report: %v", err)
	}
	if err := f.Remove(ctx, "node-1", "", ""); !errors.Is(err, placement.ErrNoNode) {
		t.Errorf("removing it again: %v", err)
	}

	// Its name is free once its instances have given back what they held.
	token, err := f.NewToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	csr := request(t, newKey(t), "node-1")
	if _, err := f.Enrol(ctx, token, "node-1", csr); !errors.Is(err, placement.ErrNodeEnding) {
		t.Errorf("enrolment while its instances end: %v", err)
	}
	if err := do(func(tx *store.Tx) error { return f.Release(tx, "node-1", need) }); err != nil {
		t.Fatal(err)
	}
	fresh, err := f.Enrol(ctx, token, "node-1", csr)
	if err != nil {
		t.Fatal(err)
	}
	f.wantGood(t, "the new node of that name", fresh)
	f.wantRefused(t, "its NODECERT, after another enrolled", cert, nodelink.ReasonRemoved)
}

// A node that is down, for however long, is still the cloud's.
func TestANodeThatIsDownStays(t *testing.T) {
	f := start(t, nil)
	cert := f.addNode(t, "node-1", placement.Status{MemoryMBTotal: 1000, MemoryMBFree: 1000, Cores: 2})
	f.clock.Add(365 * 24 * time.Hour)
	f.Sweep(t.Context())
	if nodes := f.Nodes(); len(nodes) != 1 || !nodes[0].Node.Down {
		t.Errorf("after a year: %+v", nodes)
	}
	f.wantGood(t, "after a year", cert)
	if err := f.Report(t.Context(), "node-1", nil); err != nil {
		t.Errorf("its report after a year: %v", err)
	}
}

// What is remembered of a removal ends with the certificate.
func TestRemovalsAreForgotten(t *testing.T) {
	f := start(t, nil)
	old := f.addNode(t, "node-1", placement.Status{})
	if err := f.Remove(t.Context(), "node-1", "", "old"); err != nil {
		t.Fatal(err)
	}
	f.clock.Add(3 * 365 * 24 * time.Hour)
	f.addNode(t, "node-2", placement.Status{})
	if err := f.Remove(t.Context(), "node-2", "", "new"); err != nil {
		t.Fatal(err)
	}
	f.wantRefused(t, "a certificate that ended", old, nodelink.ReasonUnknown)
}

// Two connections with the next certificate at once, and a renewal asked for meanwhile, leave one record that holds.
func TestConcurrentPromotions(t *testing.T) {
	f := start(t, nil)
	first := f.addNode(t, "node-1", placement.Status{})
	next := f.renew(t, first, newKey(t))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { f.wantGood(t, "at the same time", next) })
		wg.Go(func() {
			if err := f.AskRenewal(t.Context(), "node-1"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f.wantRefused(t, "the one before", first, nodelink.ReasonReplaced)
	if !f.sealedTo(t, "node-1").Equal(next) {
		t.Error("credentials are not sealed to the new one")
	}
	promoted := 0
	for _, ev := range f.journal.Events() {
		if ev.Kind == "node.certificate_renewed" {
			promoted++
		}
	}
	if promoted != 1 {
		t.Errorf("%d promotions in the journal", promoted)
	}
}

// Another process of the cloud, whose view is a moment behind, takes the new one and refuses the old.
func TestProcessesAgreeOnCertificates(t *testing.T) {
	f := start(t, nil)
	other, err := placement.New(t.Context(), placement.Config{Store: f.store, CA: f.ca, Clock: f.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	first := f.addNode(t, "node-1", placement.Status{})
	next := f.renew(t, first, newKey(t))
	if err := other.Authenticate(t.Context(), "node-1", next); err != nil {
		t.Fatalf("the next one, at another process: %v", err)
	}
	wake, stop := f.Follow("node-1")
	defer stop()
	f.wantGood(t, "where it was offered", next)
	if n, _ := f.Node("node-1"); n.NextDER != nil {
		<-wake // its view follows
	}
	if err := other.Remove(t.Context(), "node-1", "", "gone"); err != nil {
		t.Fatal(err)
	}
	for f.Authenticate(t.Context(), "node-1", next) == nil {
		<-wake // a moment behind, and woken then
	}
	f.wantRefused(t, "after the other removed it", next, nodelink.ReasonRemoved)
}
