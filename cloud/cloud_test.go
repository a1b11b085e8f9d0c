package cloud_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

func config(dir string) cloud.Config {
	return cloud.Config{Dir: dir, Journal: filepath.Join(dir, "journal.jsonl"), Logger: slog.New(slog.DiscardHandler),
		Images: []ec2.ImageInfo{{Name: "web", Public: true}, {Name: "lbvm"}}}
}

func start(t testing.TB, dir string) *cloud.Cloud {
	t.Helper()
	c, err := cloud.Start(t.Context(), config(dir))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func identity(t testing.TB, c *cloud.Cloud, accessKey, secret string) (string, error) {
	t.Helper()
	client := sts.NewFromConfig(
		aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(c.Endpoint()), RetryMaxAttempts: 1,
			HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
			Credentials: credentials.NewStaticCredentialsProvider(accessKey, secret, "")},
	)
	out, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Arn), nil
}

func TestCloudKeepsItsStateAndLeavesNothingRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	first := start(t, dir)
	keys, err := first.Credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	arn, err := identity(t, first, keys.AccessKeyID, keys.SecretAccessKey)
	if err != nil || arn != "arn:aws:iam::"+cloud.UserAccountID+":root" {
		t.Errorf("caller is %s, %v", arn, err)
	}
	if _, err := identity(t, first, keys.AccessKeyID, keys.SecretAccessKey+"x"); err == nil ||
		!strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("a wrong secret gives %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := start(t, dir)
	again, err := second.Credentials(t.Context())
	if err != nil || again != keys {
		t.Errorf("after a restart the keys are others: %v", err)
	}
	if _, err := identity(t, second, keys.AccessKeyID, keys.SecretAccessKey); err != nil {
		t.Error(err)
	}
	if string(first.CAPEM()) != string(second.CAPEM()) {
		t.Error("after a restart the CA is another")
	}
	second.Shutdown()
	<-second.Done()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPIOverTLSIsTheCloudCAs(t *testing.T) {
	c := start(t, t.TempDir())
	defer func() { _ = c.Close() }()
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CAPEM())
	for _, name := range []string{"169.254.169.253", "127.0.0.1", "localhost"} {
		conn, err := tls.Dial(
			"tcp",
			strings.TrimPrefix(status.TLSEndpoint, "https://"),
			&tls.Config{RootCAs: pool, ServerName: name},
		)
		if err != nil {
			t.Errorf("as %s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
}

func TestStartBadInput(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	tests := []struct {
		name   string
		change func(*cloud.Config)
		want   error
	}{
		{name: "nothing given", change: func(c *cloud.Config) { *c = cloud.Config{} }},
		{
			name:   "busy API port",
			change: func(c *cloud.Config) { c.APIAddress = busy.Addr().String() },
			want:   syscall.EADDRINUSE,
		},
		{
			name:   "busy port for nodes",
			change: func(c *cloud.Config) { c.NodeAddress = busy.Addr().String() },
			want:   syscall.EADDRINUSE,
		},
		{
			name:   "no such folder for the journal",
			change: func(c *cloud.Config) { c.Journal = "/nonexistent/journal" },
			want:   syscall.ENOENT,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t.TempDir())
			tt.change(&cfg)
			c, err := cloud.Start(t.Context(), cfg)
			if err == nil {
				_ = c.Close()
				t.Fatal("no error")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// BenchmarkStart is the time from nothing to an API that answers.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		if err := start(b, b.TempDir()).Close(); err != nil {
			b.Fatal(err)
		}
	}
}
