package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// Refusal is a request that the front door refused because of its HTTP signature, before its service saw it. It holds
// nothing of the signature.
type Refusal struct {
	RequestID, SourceIP string
	// AccessKeyID is the one that the request names, whoever sent it.
	AccessKeyID string
	// CertificateARN is the parameter of that name, as it was sent.
	CertificateARN string
	// Code is what the caller is answered, Message what was wrong.
	Code, Message string
}

// RefusedFunc is told of a refusal before the caller is answered. When it fails, so does the request.
type RefusedFunc func(ctx context.Context, r Refusal) error

// refused tells an operation's own audit of a request that the front door refuses with err, and returns the answer.
// A fault of the cloud's is no refusal.
func (d *door) refused(ctx context.Context, r *http.Request, form url.Values, rec *record, err error) error {
	tell := rec.target.binding.Refused[rec.target.action]
	f := newFault(err, rec.target)
	if tell == nil || f.status >= http.StatusInternalServerError || f.status == statusClosed {
		return err
	}
	fault := tell(ctx, Refusal{
		RequestID: rec.requestID, SourceIP: rec.sourceIP, AccessKeyID: claimedKey(r),
		CertificateARN: form.Get("CertificateArn"), Code: f.code, Message: cut(f.message),
	})
	if fault != nil {
		return fault
	}
	return err
}

// claimedKey is the access key that a request names, empty when it names none. Nothing is known of it.
func claimedKey(r *http.Request) string {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		credential = rest
	}
	key, _, _ := strings.Cut(credential, "/")
	return cut(key)
}
