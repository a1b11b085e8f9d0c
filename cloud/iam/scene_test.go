package iam_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

const (
	lbRole    = "loadbalancer-vm-123456789012-lb"
	lbPath    = "/internal/loadbalancer"
	instanceA = "i-0123456789abcdef0"
	instanceB = "i-0123456789abcdef1"
)

// scene is a world with an uploaded certificate, a load balancer's role that is granted it, and an LBVM.
type scene struct {
	*world
	pair     pair
	arn      string
	identity keydelivery.Identity
	caller   authn.Caller
}

func newScene(t testing.TB, options ...func(*iam.Config)) *scene {
	t.Helper()
	s := &scene{world: newWorld(t, options...)}
	s.pair = newPair(t, pairSpec{now: s.clock.Now()})
	s.arn = s.upload(t, "www", s.pair)
	s.serviceRole(t, lbRole, s.arn)
	s.identity = s.lbIdentity(t, instanceA)
	s.caller = s.instanceCaller(t, lbRole, instanceA)
	return s
}

func (w *world) upload(t testing.TB, name string, p pair) string {
	t.Helper()
	out := must(w.root(t, demoAccount), t, w.UploadServerCertificate, &iammodel.UploadServerCertificateInput{
		ServerCertificateName: &name, CertificateBody: &p.cert, PrivateKey: &p.key,
	})
	return *out.ServerCertificateMetadata.Arn
}

func (w *world) serviceRole(t testing.TB, name string, arns ...string) {
	t.Helper()
	if err := w.EnsureServiceRole(t.Context(), iam.ServiceRole{
		AccountID: systemAccount, Name: name, Path: lbPath, TrustService: iam.ServiceEC2,
	}); err != nil {
		t.Fatal(err)
	}
	for _, arn := range arns {
		grant := allow(iam.ActionDownload, arn)
		if err := w.PutServiceRolePolicy(t.Context(), systemAccount, name, "grant", grant); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) lbIdentity(t testing.TB, instanceID string) keydelivery.Identity {
	t.Helper()
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, _, err := w.SignLBCert(t.Context(), instanceID, key.Public(), 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return keydelivery.Identity{CertPEM: cert, Key: text}
}

func (w *world) instanceCaller(t testing.TB, role, instanceID string) authn.Caller {
	t.Helper()
	creds, err := w.InstanceCredentials(t.Context(), systemAccount, role, instanceID)
	if err != nil {
		t.Fatal(err)
	}
	return w.identify(t, creds.AccessKeyID, creds.Token)
}

// download sends a request and opens the answer.
func (s *scene) download(t testing.TB, c authn.Caller, id keydelivery.Identity, form url.Values,
	r *keydelivery.Request,
) (*keydelivery.ServerCertificate, error) {
	t.Helper()
	_, body, err := s.DownloadServerCertificate(authn.WithCaller(t.Context(), c), form)
	if err != nil {
		return nil, err
	}
	answer, err := keydelivery.ParseAnswer(body)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := r.Open(answer, s.IAMCertificatePEM(), id)
	if err != nil {
		t.Fatal(err)
	}
	return opened, nil
}

func (s *scene) request(t testing.TB, arn string, id keydelivery.Identity, at time.Time) *keydelivery.Request {
	t.Helper()
	r, err := keydelivery.NewRequest(arn, id, at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *scene) lastEvent(t testing.TB) journal.Event {
	t.Helper()
	events := s.journal.Events()
	if len(events) == 0 {
		t.Fatal("the journal is empty")
	}
	return events[len(events)-1]
}

func identityFrom(t testing.TB, a *keydelivery.Authority, instanceID string, from, to time.Time) keydelivery.Identity {
	t.Helper()
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.SignLBCert(instanceID, key.Public(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	return keydelivery.Identity{CertPEM: cert, Key: text}
}

func selfSigned(t testing.TB, instanceID string, ca bool, now time.Time) keydelivery.Identity {
	t.Helper()
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: instanceID}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return keydelivery.Identity{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: text,
	}
}
