package elb

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// meddler is iam with something done in the middle of what it does, once.
type meddler struct {
	*iam.Service
	mu       sync.Mutex
	held     func() // after a certificate was held, before the transaction commits
	asked    func() // after elb said that nobody uses a certificate
	followed func() // after elb had its records follow a renaming
}

func (m *meddler) once(f *func()) {
	m.mu.Lock()
	do := *f
	*f = nil
	m.mu.Unlock()
	if do != nil {
		do()
	}
}

func (m *meddler) HoldCertificate(tx *store.Tx, arn, by string) error {
	err := m.Service.HoldCertificate(tx, arn, by)
	m.once(&m.held)
	return err
}

func (m *meddler) SetCertificateUseCheck(check func(context.Context, string) (string, bool, error)) {
	m.Service.SetCertificateUseCheck(func(ctx context.Context, arn string) (string, bool, error) {
		user, inUse, err := check(ctx, arn)
		m.once(&m.asked)
		return user, inUse, err
	})
}

func (m *meddler) SetCertificateRename(
	follow func(context.Context, *store.Tx, string, string) ([]iam.GrantMove, error)) {
	m.Service.SetCertificateRename(func(ctx context.Context, tx *store.Tx, from, to string) ([]iam.GrantMove, error) {
		moves, err := follow(ctx, tx, from, to)
		m.once(&m.followed)
		return moves, err
	})
}

// realWorld is a world whose iam is the real one. another makes a further process on the same store.
func realWorld(t *testing.T) (*world, *meddler) {
	t.Helper()
	w := &world{t: t, ec2: newFakeEC2(), dir: t.TempDir()}
	w.openStore()
	w.cfg.EC2, w.cfg.SystemAccountID = w.ec2, system
	w.cfg.RetryMin, w.cfg.RetryMax = time.Millisecond, 20*time.Millisecond
	return another(t, w)
}

func another(t *testing.T, first *world) (*world, *meddler) {
	t.Helper()
	identity, err := iam.New(t.Context(), iam.Config{
		Store: first.cfg.Store, RootKeyFile: filepath.Join(first.dir, "root.key"), Quotas: iam.Quotas{ServerCertificates: 99},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(identity.Close)
	for id, isSystem := range map[string]bool{system: true, alice: false} {
		if _, err := identity.EnsureAccount(t.Context(), id, "account-"+id, isSystem); err != nil {
			t.Fatal(err)
		}
	}
	m := &meddler{Service: identity}
	w := &world{t: t, ec2: first.ec2, dir: first.dir, cfg: first.cfg}
	w.cfg.IAM = m
	w.start()
	return w, m
}

func rename(identity *iam.Service, name, to, path string) error {
	in := &iammodel.UpdateServerCertificateInput{ServerCertificateName: &name}
	if to != "" {
		in.NewServerCertificateName = &to
	}
	if path != "" {
		in.NewPath = &path
	}
	_, err := identity.UpdateServerCertificate(as(alice), in)
	return err
}

func certARN(name string) string { return "arn:aws:iam::" + alice + ":server-certificate/" + name }

// mayGet says whether an LBVM gets the key of a certificate.
func mayGet(t *testing.T, identity *iam.Service, guest authn.Caller, arn string) string {
	t.Helper()
	request, err := keydelivery.NewRequest(arn, lbIdentity(t, identity, guest.InstanceID), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = identity.DownloadServerCertificate(authn.WithCaller(t.Context(), guest), request.Form())
	return code(err)
}

// createNaming makes a load balancer with an HTTPS listener of the certificate.
func (w *world) createNaming(name, arn string) error {
	w.t.Helper()
	_, err := w.do(alice, "CreateLoadBalancer", join(named(name), zone, listener(1, "HTTPS", 443, "HTTP", 80, arn))...)
	return err
}

func (w *world) listenerARN(name string) string {
	w.t.Helper()
	lb, err := w.records.Get(w.t.Context(), recordKey(alice, name))
	if err != nil {
		return code(err)
	}
	return lb.Listeners[0].CertificateARN
}

// TestCertificateRename: listeners and grants follow a certificate, in every process and without a moment in which the
// guest is refused; nothing is left of the old ARN.
func TestCertificateRename(t *testing.T) {
	tests := []struct{ name, to, path, arn string }{
		{"name", "second", "", certARN("second")},
		{"path", "", "/sites/", certARN("sites/first")},
		{"both", "second", "/sites/", certARN("sites/second")},
		{"neither", "first", "/", certARN("first")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, identity := realWorld(t)
			_, other := another(t, w)
			first := upload(t, identity.Service, "first")
			if err := w.createNaming("web", first); err != nil {
				t.Fatal(err)
			}
			guest := session(t, identity.Service, webRole, w.lbvm().ID)
			// Renamed by a process, asked at another.
			if err := rename(other.Service, "first", tt.to, tt.path); err != nil {
				t.Fatal(err)
			}
			if got := w.listenerARN("web"); got != tt.arn {
				t.Errorf("the listener names %s, want %s", got, tt.arn)
			}
			if got := mayGet(t, other.Service, guest, tt.arn); got != "" {
				t.Errorf("the guest gets %q for the new ARN", got)
			}
			if tt.arn != first {
				if got := mayGet(t, other.Service, guest, first); got != "NotAuthorized" {
					t.Errorf("the guest gets %q for the old ARN", got)
				}
				// Another certificate by the old ARN is not the guest's.
				upload(t, other.Service, "first2")
				if err := rename(other.Service, "first2", "first", ""); tt.to != "" && err != nil {
					t.Fatal(err)
				}
				if got := mayGet(t, other.Service, guest, first); got != "NotAuthorized" {
					t.Errorf("the guest gets %q for another certificate by the old ARN", got)
				}
			}
			lb, err := w.records.Get(t.Context(), recordKey(alice, "web"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{lb.policyName(tt.arn): tt.arn}, lb.Granted); diff != "" {
				t.Errorf("granted (-want +got):\n%s", diff)
			}
			if err := remove(other.Service, certificateName(tt.arn)); code(err) != "DeleteConflict" {
				t.Errorf("the renamed certificate is deleted: %v", err)
			}
			must[any](w, alice, "DeleteLoadBalancer", named("web")...)
			if err := remove(other.Service, certificateName(tt.arn)); err != nil {
				t.Errorf("nobody uses it any more: %v", err)
			}
		})
	}
}

// TestCertificateInterleavings has one call come in the middle of another, where both looked before either wrote.
func TestCertificateInterleavings(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, w *world, m *meddler, other *world)
	}{
		{"a load balancer is made while the certificate is deleted", func(t *testing.T, w *world, m *meddler, other *world) {
			m.asked = func() {
				if err := other.createNaming("web", certARN("first")); err != nil {
					t.Errorf("create: %v", err)
				}
			}
			if err := remove(m.Service, "first"); code(err) != "DeleteConflict" {
				t.Errorf("delete: %v, want DeleteConflict", err)
			}
		}},
		{"the certificate is deleted while a load balancer is made", func(t *testing.T, w *world, m *meddler, _ *world) {
			m.held = func() {
				if err := remove(m.Service, "first"); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
			if err := w.createNaming("web", certARN("first")); code(err) != "CertificateNotFound" {
				t.Errorf("create: %v, want CertificateNotFound", err)
			}
		}},
		{"a listener is added while the certificate is deleted", func(t *testing.T, w *world, m *meddler, other *world) {
			must[any](w, alice, "CreateLoadBalancer", join(named("web"), zone, listener(1, "HTTP", 80, "HTTP", 80, ""))...)
			m.asked = func() {
				must[any](other, alice, "CreateLoadBalancerListeners",
					join(named("web"), listener(1, "HTTPS", 443, "HTTP", 80, certARN("first")))...)
			}
			if err := remove(m.Service, "first"); code(err) != "DeleteConflict" {
				t.Errorf("delete: %v, want DeleteConflict", err)
			}
		}},
		{"the certificate is deleted while a listener is given it", func(t *testing.T, w *world, m *meddler, _ *world) {
			upload(t, m.Service, "second")
			if err := w.createNaming("web", certARN("second")); err != nil {
				t.Fatal(err)
			}
			m.held = func() {
				if err := remove(m.Service, "first"); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
			_, err := w.do(alice, "SetLoadBalancerListenerSSLCertificate",
				join(named("web"), []string{"LoadBalancerPort", "443", "SSLCertificateId", certARN("first")})...)
			if code(err) != "CertificateNotFound" || w.listenerARN("web") != certARN("second") {
				t.Errorf("set: %v, and the listener names %s", err, w.listenerARN("web"))
			}
		}},
		{"a load balancer is made while the certificate is renamed", func(t *testing.T, w *world, m *meddler, other *world) {
			m.followed = func() {
				if err := other.createNaming("web", certARN("first")); err != nil {
					t.Errorf("create: %v", err)
				}
			}
			if err := rename(m.Service, "first", "second", ""); err != nil {
				t.Errorf("rename: %v", err)
			}
			if got := w.listenerARN("web"); got != certARN("second") {
				t.Errorf("the listener names %s", got)
			}
		}},
		{"the certificate is renamed while a load balancer is made", func(t *testing.T, w *world, m *meddler, _ *world) {
			m.held = func() {
				if err := rename(m.Service, "first", "second", ""); err != nil {
					t.Errorf("rename: %v", err)
				}
			}
			if err := w.createNaming("web", certARN("first")); code(err) != "CertificateNotFound" {
				t.Errorf("create: %v, want CertificateNotFound", err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, m := realWorld(t)
			other, _ := another(t, w)
			upload(t, m.Service, "first")
			tt.run(t, w, m, other)
			w.checkNamed(m.Service)
		})
	}
}

// checkNamed makes sure that every certificate that a listener names is there.
func (w *world) checkNamed(identity *iam.Service) {
	w.t.Helper()
	list, err := w.records.List(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range list {
		for _, arn := range list[i].grants() {
			if ok, err := identity.CertificateExists(w.t.Context(), arn); err != nil || !ok {
				w.t.Errorf("a listener of %s names %s, which is not there (%v)", list[i].Name, arn, err)
			}
		}
	}
}

// TestCertificateRace lets two processes create, delete and rename at will.
func TestCertificateRace(t *testing.T) {
	w, m := realWorld(t)
	other, om := another(t, w)
	upload(t, m.Service, "a")
	names := []string{"a", "b"}
	var wg sync.WaitGroup
	for i, p := range []struct {
		w *world
		m *meddler
	}{{w, m}, {other, om}} {
		wg.Go(func() { // creates and removes load balancers
			for n := range 15 {
				name := fmt.Sprintf("lb%d-%d", i, n%3)
				_, _ = p.w.do(alice, "CreateLoadBalancer", join(named(name), zone,
					listener(1, "HTTPS", 443, "HTTP", 80, certARN(names[n%2])))...)
				if n%3 == 2 {
					_, _ = p.w.do(alice, "DeleteLoadBalancer", named(fmt.Sprintf("lb%d-%d", i, (n+1)%3))...)
				}
			}
		})
		wg.Go(func() { // renames, and now and then deletes and uploads
			for n := range 15 {
				_ = rename(p.m.Service, names[n%2], names[(n+1)%2], "")
				if n%5 == 4 && remove(p.m.Service, names[n%2]) == nil {
					upload(t, p.m.Service, names[n%2]+strconv.Itoa(i)+strconv.Itoa(n))
				}
			}
		})
	}
	wg.Wait()
	w.checkNamed(m.Service)
	// Every listener's guest gets the key, whatever order things came in, once the loops are done.
	out := must[*elbmodel.DescribeLoadBalancersOutput](w, alice, "DescribeLoadBalancers")
	for _, d := range out.LoadBalancerDescriptions {
		role := "loadbalancer-vm-" + alice + "-" + model.Val(d.LoadBalancerName)
		guest := session(t, m.Service, role, "i-00000000000000001")
		arn := model.Val(d.ListenerDescriptions[0].Listener.SSLCertificateId)
		if got := mayGet(t, m.Service, guest, arn); got != "" {
			t.Errorf("the guest of %s gets %q for %s", model.Val(d.LoadBalancerName), got, arn)
		}
	}
}
