package operator

import (
	"context"
	"net/http"
)

// IdentityCerts is what an operator gets of the key that signs instances' identity documents.
type IdentityCerts interface {
	// IdentityCertificate returns the certificate by which those signatures are verified, in PEM.
	IdentityCertificate(ctx context.Context) (string, error)
}

func handleIdentityCerts(mux *http.ServeMux, backend IdentityCerts) {
	mux.HandleFunc("GET /identitycert", func(w http.ResponseWriter, r *http.Request) {
		text, err := backend.IdentityCertificate(r.Context())
		reply(w, text, err)
	})
}

// IdentityCertificate returns the certificate by which the signatures of instances' identity documents are verified, in
// PEM. Its key is made when it is asked for the first time.
func (c *Client) IdentityCertificate(ctx context.Context) (text string, err error) {
	return text, c.callWithin(ctx, keyTimeout, http.MethodGet, "/identitycert", &text)
}
