package cloud

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// startForFuzz starts a whole cloud without nodes.
func startForFuzz(f *testing.F) *Cloud {
	f.Helper()
	dir := f.TempDir()
	c, err := Start(f.Context(), Config{Dir: dir, Journal: filepath.Join(dir, "journal.jsonl"),
		Images: []ec2.ImageInfo{{Name: "lbvm"}, {Name: "web", Public: true}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	return c
}

// FuzzFrontDoor sends any bytes to the API's port: the answer is never a 5xx.
func FuzzFrontDoor(f *testing.F) {
	c := startForFuzz(f)
	address := c.api.Addr().String()
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nA=1",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 40\r\n\r\n" +
			"Action=ListUsers&Version=2010-05-08&%zz=",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"GET /?Action=DescribeInstances&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/b HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/iam/aws4_request," +
			"SignedHeaders=host,Signature=0\r\nX-Amz-Date: 20260101T000000Z\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x00\x05hello",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		bounded.Memory(t, len(request), func() {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatalf("the cloud is gone: %v", err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = conn.Write(request)
			// Nothing more comes: a request that is cut off ends here.
			if half, ok := conn.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return // closed, as for what is not HTTP
			}
			defer func() { _ = answer.Body.Close() }()
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
			// 501 and 505 are net/http's for a transfer encoding or version of HTTP that there is not.
			if code := answer.StatusCode; code >= 500 && code != http.StatusNotImplemented &&
				code != http.StatusHTTPVersionNotSupported {
				t.Errorf("status %d for %q: %s", code, request, body)
			}
		})
	})
}

// FuzzSignedForm signs any form as the first user: what is wrong with it is the caller's fault, never the cloud's.
func FuzzSignedForm(f *testing.F) {
	c := startForFuzz(f)
	handler := c.http[0].Handler
	keys, err := c.Credentials(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		"Action=ListUsers&Version=2010-05-08", "Action=GetUser&Version=2010-05-08&UserName=%00",
		"Action=PutUserPolicy&Version=2010-05-08&UserName=a&PolicyName=b&PolicyDocument={}",
		"Action=UploadServerCertificate&Version=2010-05-08&ServerCertificateName=a&CertificateBody=-----BEGIN&PrivateKey=x",
		"Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag:a&Filter.1.Value.1=*",
		"Action=RunInstances&Version=2016-11-15&ImageId=ami-1&MinCount=1&MaxCount=99999999999999999999",
		"Action=DescribeLoadBalancers&Version=2012-06-01&Marker=x&PageSize=401",
		"Action=CreateLoadBalancer&Version=2012-06-01&LoadBalancerName=a&Listeners.member.1.Protocol=HTTP&" +
			"Listeners.member.1.LoadBalancerPort=80&Listeners.member.1.InstancePort=80&AvailabilityZones.member.1=us-east-1a",
		"Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::1:role/x&RoleSessionName=s&DurationSeconds=-1",
		"Action=DownloadServerCertificate&Version=2010-05-08&CertificateArn=a", "Action=DescribeLoadBalancersByServo",
		"Action=PutServoStates&Version=2012-06-01&InstanceId=i-1", "Action=&Version=", "=&&&=",
	} {
		f.Add(s)
	}
	credentials := aws.Credentials{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey}
	f.Fuzz(func(t *testing.T, form string) {
		bounded.Memory(t, len(form), func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", strings.NewReader(form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, sha256Hex([]byte(form)), "iam", "us-east-1",
				time.Now()); err != nil {
				t.Skip("cannot be signed")
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code >= http.StatusInternalServerError {
				t.Errorf("status %d for %q: %s", w.Code, form, bytes.TrimSpace(w.Body.Bytes()))
			}
		})
	})
}

// FuzzOperator sends any request to the operator's door.
func FuzzOperator(f *testing.F) {
	c := startForFuzz(f)
	path := filepath.Join(f.TempDir(), "o.sock")
	listener, err := operator.Listen(f.Context(), path)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.Context())
	served := make(chan error, 1)
	go func() { served <- operator.Serve(ctx, listener, c) }()
	f.Cleanup(func() {
		cancel()
		<-served
	})
	for _, s := range []string{
		"GET /status HTTP/1.1\r\nHost: x\r\n\r\n", "GET /request?id=%ff HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /node-token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "GET /../../etc HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT /credentials HTTP/1.0\r\n\r\n", "GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		bounded.Memory(t, len(request), func() {
			if bytes.Contains(request, []byte("/shutdown")) {
				t.Skip("it would do as it is told")
			}
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
			if err != nil {
				t.Fatalf("the operator's door is gone: %v", err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = conn.Write(request)
			if half, ok := conn.(*net.UnixConn); ok {
				_ = half.CloseWrite()
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("no answer to %q", request)
				}
				return
			}
			defer func() { _ = answer.Body.Close() }()
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
			// A client that ends its side early may be taken for one that has hung up.
			if code := answer.StatusCode; code >= 500 && code != http.StatusNotImplemented &&
				code != http.StatusHTTPVersionNotSupported && !bytes.Contains(body, []byte("context canceled")) {
				t.Errorf("status %d for %q: %s", code, request, body)
			}
		})
	})
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
