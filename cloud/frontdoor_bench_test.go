package cloud

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cloudtwin/cloudtwin/cloud/api"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

const benchedTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},` +
	`"Action":"sts:AssumeRole"}]}`

// BenchmarkFrontDoor measures what the cloud itself does for a signed request: without connections, of which e2e/bench
// measures the whole.
func BenchmarkFrontDoor(b *testing.B) {
	dir := b.TempDir()
	c, err := Start(b.Context(), Config{Dir: dir, Journal: filepath.Join(dir, "journal.jsonl"),
		Logger: slog.New(slog.DiscardHandler),
		Images: []ec2.ImageInfo{{Name: "web", Public: true}, {Name: "lbvm"}}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	}()
	handler, err := api.New(c.frontDoor())
	if err != nil {
		b.Fatal(err)
	}
	root, err := c.Credentials(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	keys := aws.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}
	const roles = 1000
	for i := range roles {
		ask(b, handler, keys, "iam", url.Values{"Action": {"CreateRole"}, "RoleName": {fmt.Sprintf("bench-%04d", i)},
			"AssumeRolePolicyDocument": {benchedTrust}})
	}
	for _, bench := range []struct {
		name, service string
		form          url.Values
		auditOnly     bool
	}{
		{"GetCallerIdentity", "sts", url.Values{"Action": {"GetCallerIdentity"}}, false},
		{"GetCallerIdentity.unrecorded", "sts", url.Values{"Action": {"GetCallerIdentity"}}, true},
		{"GetRole", "iam", url.Values{"Action": {"GetRole"}, "RoleName": {"bench-0007"}}, false},
		{"ListRoles.10", "iam", url.Values{"Action": {"ListRoles"}, "MaxItems": {"10"}}, false},
		{"ListRoles.1000", "iam", url.Values{"Action": {"ListRoles"}, "MaxItems": {"1000"}}, false},
		{"DescribeInstances.none", "ec2", url.Values{"Action": {"DescribeInstances"}}, false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c.journal.AuditOnly(bench.auditOnly)
			r, body := signedForm(b, keys, bench.service, bench.form)
			b.ReportAllocs()
			for b.Loop() {
				answered(b, handler, r, body)
			}
		})
	}
}

func signedForm(b *testing.B, keys aws.Credentials, service string, form url.Values) (*http.Request, []byte) {
	b.Helper()
	body := []byte(form.Encode())
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(b.Context(), keys, r, hex.EncodeToString(sum[:]), service, "us-east-1",
		time.Now()); err != nil {
		b.Fatal(err)
	}
	return r, body
}

// sink drops an answer.
type sink struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (s *sink) Header() http.Header            { return s.header }
func (s *sink) WriteHeader(status int)         { s.status = status }
func (s *sink) Write(text []byte) (int, error) { return s.body.Write(text) }

func answered(b *testing.B, handler http.Handler, r *http.Request, body []byte) []byte {
	b.Helper()
	r.Body = http.NoBody
	if len(body) > 0 {
		r.Body = nopCloser{bytes.NewReader(body)}
	}
	w := &sink{header: http.Header{}}
	handler.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		b.Fatalf("the answer is %d: %.300s", w.status, w.body.String())
	}
	return w.body.Bytes()
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

func ask(b *testing.B, handler http.Handler, keys aws.Credentials, service string, form url.Values) []byte {
	b.Helper()
	r, body := signedForm(b, keys, service, form)
	return answered(b, handler, r, body)
}
