package elb

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestWithRealIAM shows with iam itself what the fakes elsewhere only pretend: who may download what, and when.
func TestWithRealIAM(t *testing.T) {
	w := &world{t: t, ec2: newFakeEC2(), dir: t.TempDir()}
	w.openStore()
	identity, err := iam.New(t.Context(), iam.Config{
		Store: w.cfg.Store, RootKeyFile: filepath.Join(t.TempDir(), "root.key"),
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
	w.cfg.IAM, w.cfg.EC2, w.cfg.SystemAccountID = identity, w.ec2, system
	w.cfg.RetryMin, w.cfg.RetryMax = time.Millisecond, 20*time.Millisecond
	w.start()

	first, second := upload(t, identity, "first"), upload(t, identity, "second")
	must[*elbmodel.CreateLoadBalancerOutput](w, alice, "CreateLoadBalancer",
		join(named("web"), zone, listener(1, "HTTPS", 443, "HTTP", 80, first))...)
	vm := w.lbvm()
	caller := session(t, identity, webRole, vm.ID)
	guestIdentity := lbIdentity(t, identity, vm.ID)
	mayDownload := func(arn string, want bool) {
		t.Helper()
		request, err := keydelivery.NewRequest(arn, guestIdentity, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = identity.DownloadServerCertificate(authn.WithCaller(t.Context(), caller), request.Form())
		if wantCode := map[bool]string{true: "", false: "NotAuthorized"}[want]; code(err) != wantCode {
			t.Errorf("download of %s: %v, want code %q", arn, err, wantCode)
		}
	}
	mayDownload(first, true)
	mayDownload(second, false)
	if _, err := w.describeAs(authn.WithCaller(context.Background(), caller), vm.ID, "", 0); err != nil {
		t.Errorf("the LBVM's own session is refused: %v", err)
	}
	if err := remove(identity, "first"); code(err) != "DeleteConflict" {
		t.Errorf("a certificate in use is deleted: %v", err)
	}

	must[any](w, alice, "SetLoadBalancerListenerSSLCertificate",
		join(named("web"), []string{"LoadBalancerPort", "443", "SSLCertificateId", second})...)
	mayDownload(first, false)
	mayDownload(second, true)
	if err := remove(identity, "first"); err != nil {
		t.Errorf("a certificate that is no longer used: %v", err)
	}
	must[any](w, alice, "DeleteLoadBalancerListeners",
		join(named("web"), []string{"LoadBalancerPorts.member.1", "443"})...)
	mayDownload(second, false)

	must[any](w, alice, "DeleteLoadBalancer", named("web")...)
	if _, err := identity.InstanceCredentials(t.Context(), system, webRole, vm.ID); code(err) != "NoSuchEntity" {
		t.Errorf("the role outlives its load balancer: %v", err)
	}
	must[*elbmodel.CreateLoadBalancerOutput](w, alice, "CreateLoadBalancer",
		join(named("web"), zone, listener(1, "HTTPS", 443, "HTTP", 80, second))...)
	mayDownload(second, false) // the old role's session is not the new role's
}

func session(t *testing.T, identity *iam.Service, role, instanceID string) authn.Caller {
	t.Helper()
	credentials, err := identity.InstanceCredentials(t.Context(), system, role, instanceID)
	if err != nil {
		t.Fatal(err)
	}
	_, caller, err := identity.Identify(t.Context(), credentials.AccessKeyID, credentials.Token)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

// lbIdentity is what the instance's medium would hold.
func lbIdentity(t *testing.T, identity *iam.Service, instanceID string) keydelivery.Identity {
	t.Helper()
	key, keyPEM, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, _, err := identity.SignLBCert(t.Context(), instanceID, key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return keydelivery.Identity{CertPEM: certPEM, Key: keyPEM}
}

// upload gives iam a certificate and key of that name and returns its ARN.
func upload(t *testing.T, identity *iam.Service, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www.example.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := identity.UploadServerCertificate(as(alice), &iammodel.UploadServerCertificateInput{
		ServerCertificateName: model.Ptr(name),
		CertificateBody:       model.Ptr(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		PrivateKey:            model.Ptr(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))),
	})
	if err != nil {
		t.Fatal(err)
	}
	return model.Val(out.ServerCertificateMetadata.Arn)
}

func remove(identity *iam.Service, name string) error {
	_, err := identity.DeleteServerCertificate(as(alice),
		&iammodel.DeleteServerCertificateInput{ServerCertificateName: &name})
	return err
}
