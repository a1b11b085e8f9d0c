package model

import (
	"errors"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// These are the shortest traces that the explorer found in worlds with one rule off, played on the real packages.

func newPair(t *testing.T) *pki.Pair {
	t.Helper()
	ca, err := pki.NewAuthority("model CA")
	check(t, err)
	pair, err := ca.Server(pki.P256, "www.example.test")
	check(t, err)
	return pair
}

// during runs change while iam is at check 3 of the next delivery, after it found the LBVM live.
func (p *product) during(change func()) {
	once := func() {
		p.asked.Store(nil)
		change()
	}
	p.asked.Store(&once)
}

// TestTerminatedBetweenChecks: the LBVM is live at check 3 and its load balancer names the certificate at check 8,
// but at no instant are both so.
func TestTerminatedBetweenChecks(t *testing.T) {
	p, pair := newProduct(t), newPair(t)
	first, err := p.upload("first", "/", pair)
	check(t, err)
	second, err := p.upload("second", "/", pair)
	check(t, err)
	check(t, p.create("web", first))
	g := p.newGuest(t, "web")
	p.during(func() {
		check(t, p.ec2.Terminate(t.Context(), systemAccount, g.id))
		check(t, p.setCertificate("web", 443, second))
	})
	if err := p.download(g, second); code(err) != "NotAuthorized" {
		t.Errorf("an LBVM that ended before the listener named the certificate: %v", err)
	}
	if err := p.download(p.newGuest(t, "web"), second); err != nil {
		t.Errorf("control: its successor: %v", err)
	}
}

// TestKeyReplacedBetweenChecks: the listener is gone before another key is uploaded under the name that it had.
func TestKeyReplacedBetweenChecks(t *testing.T) {
	p, pair := newProduct(t), newPair(t)
	first, err := p.upload("first", "/", pair)
	check(t, err)
	second, err := p.upload("second", "/", pair)
	check(t, err)
	check(t, p.create("web", first))
	g := p.newGuest(t, "web")
	// Check 8 is passed as soon as the policy was read; what follows happens at check 9, when its own read is under
	// way. From outside only check 3 can be held, so the order is the one that the closing checks must see.
	p.during(func() {
		check(t, p.setCertificate("web", 443, second))
		_, err := p.iam.DeleteServerCertificate(user(),
			&iammodel.DeleteServerCertificateInput{ServerCertificateName: model.Ptr("first")})
		check(t, err)
		_, err = p.upload("first", "/", newPair(t))
		check(t, err)
	})
	if err := p.download(g, first); code(err) != "NotAuthorized" {
		t.Errorf("a key that no listener ever named: %v", err)
	}
	if err := p.download(g, second); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestCallAfterFailedCall: a call that failed after it had noted its grant down must not let the next one believe
// that the grant is there.
func TestCallAfterFailedCall(t *testing.T) {
	p, pair := newProduct(t), newPair(t)
	first, err := p.upload("first", "/", pair)
	check(t, err)
	second, err := p.upload("second", "/", pair)
	check(t, err)
	check(t, p.create("web", first))
	g := p.newGuest(t, "web")
	broken := errors.New("iam's store is out of reach")
	p.failing.Store(&broken)
	p.keeping.Store(&broken)
	if err := p.addListener("web", 8443, second); !errors.Is(err, broken) {
		t.Fatalf("the call went through: %v", err)
	}
	p.failing.Store(nil)
	check(t, p.addListener("web", 8443, second))
	p.keeping.Store(nil)
	if err := p.download(g, second); err != nil {
		t.Errorf("the listener of the second call has no grant: %v", err)
	}
}

// TestDeletionThatCouldNotDropTheRole: DeleteLoadBalancer must not say that it succeeded while the role still opens
// keys.
func TestDeletionThatCouldNotDropTheRole(t *testing.T) {
	p, pair := newProduct(t), newPair(t)
	arn, err := p.upload("first", "/", pair)
	check(t, err)
	check(t, p.create("web", arn))
	g := p.newGuest(t, "web")
	broken := errors.New("iam's store is out of reach")
	p.failing.Store(&broken)
	if err := p.delete("web"); err == nil && p.download(g, arn) == nil {
		t.Error("the load balancer was deleted, and its LBVM still gets the key")
	}
	p.failing.Store(nil)
	eventually(t, "the role is gone", func() bool { return p.download(g, arn) != nil })
}

// TestSessionOfALaterRole: an instance that was launched for a load balancer that is gone, and that nobody has ended
// yet, gets no session of the role of a new load balancer of the same name.
func TestSessionOfALaterRole(t *testing.T) {
	p, pair := newProduct(t), newPair(t)
	arn, err := p.upload("first", "/", pair)
	check(t, err)
	check(t, p.create("web", arn))
	role := p.newGuest(t, "web").role(t, p)
	// As a reconcile leaves it that ends between launch and record; the tag keeps the loop from finding it.
	stray, err := p.ec2.Launch(t.Context(), ec2.Launch{
		AccountID: systemAccount, System: true, ImageName: "lbvm", InstanceProfileName: role,
	})
	check(t, err)
	g := &guest{id: stray.ID}
	if err := p.mint(g); err != nil {
		t.Fatalf("control: while its role is there: %v", err)
	}
	check(t, p.delete("web"))
	if err := p.mint(g); err == nil {
		t.Error("a session of a role that is gone")
	}
	check(t, p.create("web", arn))
	if err := p.mint(g); err == nil {
		t.Error("a session of another load balancer's role")
	}
	check(t, p.mint(p.newGuest(t, "web")))
}

// role is the name of the guest's role, which is that of its instance profile too.
func (g *guest) role(t fatal, p *product) string {
	t.Helper()
	inst, err := p.ec2.Instance(user(), g.id)
	check(t, err)
	return inst.RoleName
}
