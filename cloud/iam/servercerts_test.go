package iam_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestUploadServerCertificateAccepts(t *testing.T) {
	w := newWorld(t)
	now := w.clock.Now()
	ctx := w.root(t, demoAccount)
	rootCA := newPair(t, pairSpec{now: now, name: "root", ca: true})
	middle := newPair(t, pairSpec{now: now, name: "middle", ca: true, parent: &rootCA})
	leaf := newPair(t, pairSpec{now: now, parent: &middle})
	rsaKey := newRSA(t, 2048)
	rsaPair := newPair(t, pairSpec{now: now, signer: rsaKey})
	ecKey := newEC(t, elliptic.P256())
	ecPair := newPair(t, pairSpec{now: now, signer: ecKey})
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	p384 := newPair(t, pairSpec{now: now, signer: newEC(t, elliptic.P384())})
	tests := []struct {
		name             string
		cert, key, chain string
	}{
		{"P-256", ecPair.cert, ecPair.key, ""},
		{"P-384", p384.cert, p384.key, ""},
		{"RSA", rsaPair.cert, rsaPair.key, ""},
		{"RSA as PKCS1", rsaPair.cert, pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), ""},
		{"EC as SEC1", ecPair.cert, pemOf("EC PRIVATE KEY", sec1), ""},
		{"EC with parameters", ecPair.cert, pemOf("EC PARAMETERS", []byte{6, 0}) + pemOf("EC PRIVATE KEY", sec1), ""},
		{"spaces around", "\n\n " + ecPair.cert + "\n ", "\n" + ecPair.key + "\n\n", " \n"},
		{"chain of one", leaf.cert, leaf.key, middle.cert},
		{"chain of two", leaf.cert, leaf.key, middle.cert + "\n" + rootCA.cert},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := "c" + strings.ReplaceAll(tt.name, " ", "-")
			in := &iammodel.UploadServerCertificateInput{
				ServerCertificateName: &name, CertificateBody: &tt.cert, PrivateKey: &tt.key, Path: model.Ptr("/a/b/"),
			}
			if tt.chain != "" {
				in.CertificateChain = &tt.chain
			}
			m := must(ctx, t, w.UploadServerCertificate, in).ServerCertificateMetadata
			if want := "arn:aws:iam::" + demoAccount + ":server-certificate/a/b/" + name; *m.Arn != want {
				t.Errorf("ARN %s, want %s", *m.Arn, want)
			}
			got := must(ctx, t, w.GetServerCertificate,
				&iammodel.GetServerCertificateInput{ServerCertificateName: &name}).ServerCertificate
			if diff := cmp.Diff(m, got.ServerCertificateMetadata); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
			if *got.CertificateBody != strings.TrimSpace(tt.cert) ||
				model.Val(got.CertificateChain) != strings.TrimSpace(tt.chain) {
				t.Error("body or chain are not those that were uploaded")
			}
		})
	}
}

func TestUploadServerCertificateRefuses(t *testing.T) {
	w := newWorld(t)
	now := w.clock.Now()
	ctx := w.root(t, demoAccount)
	good := newPair(t, pairSpec{now: now})
	other := newPair(t, pairSpec{now: now})
	ca := newPair(t, pairSpec{now: now, name: "ca", ca: true})
	signed := newPair(t, pairSpec{now: now, parent: &ca})
	notCA := newPair(t, pairSpec{now: now, parent: &good})
	weak := newPair(t, pairSpec{now: now, signer: weakRSA(t)})
	p521 := newPair(t, pairSpec{now: now, signer: newEC(t, elliptic.P521())})
	edwards := newPair(t, pairSpec{now: now, signer: newEd25519(t)})
	old := newPair(t, pairSpec{now: now, from: now.Add(-2 * time.Hour), to: now.Add(-time.Hour)})
	young := newPair(t, pairSpec{now: now, from: now.Add(time.Hour)})
	w.upload(t, "taken", good)
	encrypted := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n" +
		"-----END RSA PRIVATE KEY-----\n"
	tests := []struct {
		name             string
		certName, path   string
		cert, key, chain string
		code, field      string
	}{
		{"name taken", "taken", "", good.cert, good.key, "", "EntityAlreadyExists", "taken"},
		{"name taken in other case", "TAKEN", "", good.cert, good.key, "", "EntityAlreadyExists", "TAKEN"},
		{"name with space", "a b", "", good.cert, good.key, "", "ValidationError", "serverCertificateName"},
		{"name with underscore", "a_b", "", good.cert, good.key, "", "ValidationError", "serverCertificateName"},
		{"name with slash", "a/b", "", good.cert, good.key, "", "ValidationError", "serverCertificateName"},
		{"name empty", "", "", good.cert, good.key, "", "ValidationError", "serverCertificateName"},
		{"name too long", strings.Repeat("a", 129), "", good.cert, good.key, "", "ValidationError", "serverCertificateName"},
		{"path without end", "n", "/a", good.cert, good.key, "", "ValidationError", "path"},
		{"path without begin", "n", "a/", good.cert, good.key, "", "ValidationError", "path"},
		{"path with space", "n", "/a b/", good.cert, good.key, "", "ValidationError", "path"},
		{"path too long", "n", "/" + strings.Repeat("a", 511) + "/", good.cert, good.key, "", "ValidationError", "path"},
		{"certificate no PEM", "n", "", "hello", good.key, "", "MalformedCertificate", "CertificateBody"},
		{"certificate empty", "n", "", " ", good.key, "", "MalformedCertificate", "CertificateBody"},
		{"certificate is a key", "n", "", good.key, good.key, "", "MalformedCertificate", "CertificateBody"},
		{"certificate damaged", "n", "", pemOf("CERTIFICATE", []byte{1, 2, 3}), good.key, "",
			"MalformedCertificate", "CertificateBody"},
		{"certificate with text behind", "n", "", good.cert + "x", good.key, "", "MalformedCertificate", "CertificateBody"},
		{"certificate with chain inside", "n", "", signed.cert + ca.cert, signed.key, "",
			"MalformedCertificate", "CertificateChain"},
		{"key no PEM", "n", "", good.cert, "hello", "", "MalformedCertificate", "PrivateKey"},
		{"key is a certificate", "n", "", good.cert, good.cert, "", "MalformedCertificate", "PrivateKey"},
		{"key damaged", "n", "", good.cert, pemOf("PRIVATE KEY", []byte{1, 2, 3}), "", "MalformedCertificate", "PrivateKey"},
		{"key twice", "n", "", good.cert, good.key + good.key, "", "MalformedCertificate", "PrivateKey"},
		{"key encrypted", "n", "", good.cert, encrypted, "", "MalformedCertificate", "PrivateKey"},
		{"key encrypted as PKCS8", "n", "", good.cert, pemOf("ENCRYPTED PRIVATE KEY", []byte{1}), "",
			"MalformedCertificate", "PrivateKey"},
		{"key of another certificate", "n", "", good.cert, other.key, "", "KeyPairMismatch", "PrivateKey"},
		{"RSA of 1024 bits", "n", "", weak.cert, weak.key, "", "MalformedCertificate", "PrivateKey"},
		{"P-521", "n", "", p521.cert, p521.key, "", "MalformedCertificate", "PrivateKey"},
		{"Ed25519", "n", "", edwards.cert, edwards.key, "", "MalformedCertificate", "PrivateKey"},
		{"expired", "n", "", old.cert, old.key, "", "InvalidInput", "CertificateBody"},
		{"not yet valid", "n", "", young.cert, young.key, "", "InvalidInput", "CertificateBody"},
		{"chain no PEM", "n", "", signed.cert, signed.key, "hello", "MalformedCertificate", "CertificateChain"},
		{"chain of another", "n", "", good.cert, good.key, ca.cert, "MalformedCertificate", "index 0"},
		{"chain in wrong order", "n", "", signed.cert, signed.key, ca.cert + good.cert, "MalformedCertificate", "index 1"},
		{"signer is no CA", "n", "", notCA.cert, notCA.key, good.cert, "MalformedCertificate", "index 0"},
		{"chain too long", "n", "", signed.cert, signed.key, strings.Repeat(ca.cert, 11),
			"MalformedCertificate", "CertificateChain"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &iammodel.UploadServerCertificateInput{
				ServerCertificateName: &tt.certName, CertificateBody: &tt.cert, PrivateKey: &tt.key,
			}
			if tt.path != "" {
				in.Path = &tt.path
			}
			if tt.chain != "" {
				in.CertificateChain = &tt.chain
			}
			_, err := w.UploadServerCertificate(ctx, in)
			wantCode(t, err, tt.code)
			if err == nil || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("error %v does not name %s", err, tt.field)
			}
			if err != nil && strings.Contains(err.Error(), "PRIVATE KEY") {
				t.Error("the error repeats the key")
			}
		})
	}
	list := must(ctx, t, w.ListServerCertificates, &iammodel.ListServerCertificatesInput{})
	if n := len(list.ServerCertificateMetadataList); n != 1 {
		t.Errorf("%d certificates after refused uploads, want 1", n)
	}
}

func weakRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	return newRSA(t, 1024)
}

func TestServerCertificateQuota(t *testing.T) {
	w := newWorld(t, func(c *iam.Config) { c.Quotas.ServerCertificates = 1 })
	p := newPair(t, pairSpec{now: w.clock.Now()})
	w.upload(t, "one", p)
	_, err := w.UploadServerCertificate(w.root(t, demoAccount), &iammodel.UploadServerCertificateInput{
		ServerCertificateName: model.Ptr("two"), CertificateBody: &p.cert, PrivateKey: &p.key,
	})
	wantCode(t, err, "LimitExceeded")
}

func TestServerCertificatesAreSealedAtRest(t *testing.T) {
	w := newWorld(t)
	signer := newEC(t, elliptic.P256())
	p := newPair(t, pairSpec{now: w.clock.Now(), signer: signer})
	w.upload(t, "www", p)
	raw := dump(t, w)
	body := strings.Join(strings.Split(strings.TrimSpace(p.key), "\n")[1:3], `\n`)
	scalar, err := ecdsaBytes(signer)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(raw, "server-certificate") && !strings.Contains(raw, "ASCA") {
		t.Fatal("the dump does not hold the record")
	}
	if strings.Contains(raw, body) || strings.Contains(raw, string(scalar)) {
		t.Error("the store holds the key in clear")
	}
}

func ecdsaBytes(k *ecdsa.PrivateKey) ([]byte, error) { return k.Bytes() }

func TestUpdateServerCertificate(t *testing.T) {
	s := newScene(t)
	ctx := s.root(t, demoAccount)
	s.upload(t, "other", s.pair)
	update := func(name string, newName, newPath *string) error {
		_, err := s.UpdateServerCertificate(ctx, &iammodel.UpdateServerCertificateInput{
			ServerCertificateName: &name, NewServerCertificateName: newName, NewPath: newPath,
		})
		return err
	}
	wantCode(t, update("nothing", model.Ptr("x"), nil), "NoSuchEntity")
	wantCode(t, update("www", model.Ptr("other"), nil), "EntityAlreadyExists")
	wantCode(t, update("www", model.Ptr("a b"), nil), "ValidationError")
	wantCode(t, update("www", nil, model.Ptr("x")), "ValidationError")
	before, err := s.ServerCertificateRevision(t.Context(), s.arn)
	if err != nil {
		t.Fatal(err)
	}
	if err := update("www", model.Ptr("WWW"), model.Ptr("/p/")); err != nil {
		t.Fatal(err)
	}
	_, err = s.ServerCertificateRevision(t.Context(), s.arn)
	wantCode(t, err, "NoSuchEntity")
	moved := "arn:aws:iam::" + demoAccount + ":server-certificate/p/WWW"
	after, err := s.ServerCertificateRevision(t.Context(), moved)
	if err != nil || after != before {
		t.Errorf("revision %q, %v; want %q: the same key", after, err, before)
	}
	if err := s.PutServiceRolePolicy(t.Context(), systemAccount, lbRole, "grant",
		allow(iam.ActionDownload, moved)); err != nil {
		t.Fatal(err)
	}
	r := s.request(t, moved, s.identity, s.clock.Now())
	if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
		t.Errorf("delivery after the move: %v", err)
	}
}

func TestDeleteServerCertificate(t *testing.T) {
	s := newScene(t)
	ctx := s.root(t, demoAccount)
	remove := func(ctx context.Context, name string) error {
		_, err := s.DeleteServerCertificate(ctx, &iammodel.DeleteServerCertificateInput{ServerCertificateName: &name})
		return err
	}
	wantCode(t, remove(ctx, "nothing"), "NoSuchEntity")
	wantCode(t, remove(s.root(t, otherAccount), "www"), "NoSuchEntity")
	inUse, failure := true, error(nil)
	s.SetCertificateUseCheck(func(_ context.Context, arn string) (string, bool, error) {
		if arn != s.arn {
			t.Errorf("asked about %s", arn)
		}
		return "load balancer lb", inUse, failure
	})
	err := remove(ctx, "www")
	wantCode(t, err, "DeleteConflict")
	if err == nil || !strings.Contains(err.Error(), "load balancer lb") {
		t.Errorf("error %v does not name the user", err)
	}
	inUse, failure = false, errors.New("elb is away")
	if err := remove(ctx, "www"); !errors.Is(err, failure) {
		t.Errorf("error %v, want the check's", err)
	}
	failure = nil
	if err := remove(ctx, "www"); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.CertificateExists(t.Context(), s.arn); ok || err != nil {
		t.Errorf("exists %t, %v", ok, err)
	}
}

func TestListServerCertificatesPages(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	p := newPair(t, pairSpec{now: w.clock.Now()})
	for _, name := range []string{"c", "A", "b"} {
		must(ctx, t, w.UploadServerCertificate, &iammodel.UploadServerCertificateInput{
			ServerCertificateName: &name, CertificateBody: &p.cert, PrivateKey: &p.key, Path: model.Ptr("/" + name + "/"),
		})
	}
	var names []string
	in := &iammodel.ListServerCertificatesInput{MaxItems: model.Ptr(int64(2))}
	for pages := 1; ; pages++ {
		out := must(ctx, t, w.ListServerCertificates, in)
		for _, m := range out.ServerCertificateMetadataList {
			names = append(names, *m.ServerCertificateName)
		}
		if !*out.IsTruncated {
			if pages != 2 {
				t.Errorf("%d pages, want 2", pages)
			}
			break
		}
		in.Marker = out.Marker
	}
	if diff := cmp.Diff([]string{"A", "b", "c"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	out := must(ctx, t, w.ListServerCertificates, &iammodel.ListServerCertificatesInput{PathPrefix: model.Ptr("/b")})
	if len(out.ServerCertificateMetadataList) != 1 {
		t.Errorf("%d certificates under /b", len(out.ServerCertificateMetadataList))
	}
	_, err := w.ListServerCertificates(ctx, &iammodel.ListServerCertificatesInput{Marker: model.Ptr("?")})
	wantCode(t, err, "ValidationError")
}

func TestWatchServerCertificates(t *testing.T) {
	w := newWorld(t)
	p := newPair(t, pairSpec{now: w.clock.Now()})
	first := w.upload(t, "first", p)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	arns, err := w.WatchServerCertificates(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	want = append(want, w.upload(t, "second", p))
	root := w.root(t, demoAccount)
	must(root, t, w.UpdateServerCertificate, &iammodel.UpdateServerCertificateInput{
		ServerCertificateName: model.Ptr("second"), NewPath: model.Ptr("/p/"),
	})
	want = append(want, want[0], "arn:aws:iam::"+demoAccount+":server-certificate/p/second")
	must(root, t, w.DeleteServerCertificate, &iammodel.DeleteServerCertificateInput{
		ServerCertificateName: model.Ptr("first"),
	})
	want = append(want, first)
	var got []string
	for range want {
		got = append(got, <-arns)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ARNs (-want +got):\n%s", diff)
	}
	cancel()
	for range arns {
	}
}
