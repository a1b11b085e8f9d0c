package imds

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

// signingSource is a source whose identity documents are signed.
type signingSource struct {
	*source
	err error
}

func (s *signingSource) Signatures(ctx context.Context, id string) (Signatures, error) {
	if _, ok := ctx.Deadline(); !ok {
		return Signatures{}, errors.New("asked without a deadline")
	}
	return Signatures{Signature: "signature of " + id, PKCS7: "pkcs7 of " + id, RSA2048: "rsa2048 of " + id}, s.err
}

func TestSignatures(t *testing.T) {
	src := &signingSource{source: newSource()}
	h := newHandler(src)
	const folder = "/latest/dynamic/instance-identity/"
	if got := body(t, ask(h, fullID, http.MethodGet, folder)); got != lines("document", "pkcs7", "rsa2048", "signature") {
		t.Errorf("listing %q", got)
	}
	for _, name := range []string{"signature", "pkcs7", "rsa2048"} {
		if got, want := body(t, ask(h, fullID, http.MethodGet, folder+name)), name+" of "+fullID; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	src.err = errors.New("the cloud is away")
	if got := ask(h, fullID, http.MethodGet, folder+"pkcs7").StatusCode; got != http.StatusServiceUnavailable {
		t.Errorf("status %d while the cloud is away, want 503", got)
	}
	if got := ask(h, fullID, http.MethodGet, folder+"document").StatusCode; got != http.StatusOK {
		t.Errorf("status %d of the document while the cloud is away, want 200", got)
	}
}
