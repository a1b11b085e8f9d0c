package authn

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func FuzzAuthorization(f *testing.F) {
	const scope = "Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request"
	f.Add("AWS4-HMAC-SHA256 " + scope + ", SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("a", 64))
	f.Add("AWS4-HMAC-SHA256 " + scope + ",SignedHeaders=content-type;host,Signature=" + strings.Repeat("0", 64))
	f.Add("AWS4-HMAC-SHA256 Credential=////,SignedHeaders=;,Signature=")
	f.Add("AWS AKID:sig")
	f.Fuzz(func(t *testing.T, header string) {
		bounded.Memory(t, len(header), func() {
			s, err := parseAuthorization(header)
			if err != nil {
				var known *Error
				if !errors.As(err, &known) {
					t.Fatalf("error %v has no code", err)
				}
				return
			}
			again, err := parseAuthorization(algorithm + " Credential=" + strings.Join([]string{
				s.accessKeyID, s.day, s.region, s.service, terminator,
			}, "/") + ",SignedHeaders=" + strings.Join(s.signedHeaders, ";") + ",Signature=" + s.value)
			if err != nil || again.accessKeyID != s.accessKeyID || again.value != s.value || len(s.value) != 64 {
				t.Errorf("%+v was read again as %+v, %v", s, again, err)
			}
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
			r.Header.Set("Authorization", header)
			r.Header.Set("X-Amz-Date", signingTime.Format(timeFormat))
			if _, err := verifier(signingTime).Verify(t.Context(), r, nil, lookup); err == nil {
				t.Errorf("accepted %q", header)
			}
		})
	})
}

func BenchmarkVerify(b *testing.B) {
	for name, p := range map[string]plan{"plain": plainBase(), "other": base()} {
		b.Run(name, func(b *testing.B) {
			r, body := received(b, p.sign(b))
			v := verifier(signingTime)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), r, body, lookup); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
