package operator

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// IAMCert is an IAMCERT: the cloud's certificate that signs load-balancer VMs' identities and answers to them.
type IAMCert struct {
	Serial   string    `json:"serial"` // hexadecimal
	Profile  int       `json:"profile"`
	State    string    `json:"state"` // current, former, retired
	Created  time.Time `json:"created"`
	NotAfter time.Time `json:"notAfter"`
	Replaced time.Time `json:"replaced,omitzero"`
	Retired  time.Time `json:"retired,omitzero"`
	// Users is how many live instances have an identity that it signed.
	Users int `json:"users"`
	// SealedKeys is how many server certificates' keys are sealed to it.
	SealedKeys int `json:"sealedKeys"`
}

// IAMCerts is what an operator can do about IAMCERTs. An error that is a *Refusal is the operator's own mistake.
type IAMCerts interface {
	// IAMCerts lists them, profile 2 first, newest first.
	IAMCerts(ctx context.Context) ([]IAMCert, error)
	// RotateIAMCert makes a new one for a profile and returns it.
	RotateIAMCert(ctx context.Context, profile int) (IAMCert, error)
	// RetireIAMCerts has former ones accepted no more: the one of that serial, or all when serial is empty. Without force
	// none that is in use.
	RetireIAMCerts(ctx context.Context, serial string, force bool) ([]IAMCert, error)
}

// keyTimeout bounds calls for which RSA keys may have to be made or many sealed keys sealed anew.
const keyTimeout = 2 * time.Minute

func handleIAMCerts(mux *http.ServeMux, backend IAMCerts) {
	mux.HandleFunc("GET /iamcerts", func(w http.ResponseWriter, r *http.Request) {
		list, err := backend.IAMCerts(r.Context())
		reply(w, list, err)
	})
	mux.HandleFunc("POST /iamcert/rotate", func(w http.ResponseWriter, r *http.Request) {
		profile, err := strconv.Atoi(r.URL.Query().Get("profile"))
		if err != nil {
			reply(w, nil, &Refusal{Message: "profile must be 1 or 2"})
			return
		}
		cert, err := backend.RotateIAMCert(r.Context(), profile)
		reply(w, cert, err)
	})
	mux.HandleFunc("POST /iamcert/retire", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		list, err := backend.RetireIAMCerts(r.Context(), q.Get("serial"), q.Get("force") == "true")
		reply(w, list, err)
	})
}

// IAMCerts lists the cloud's IAMCERTs.
func (c *Client) IAMCerts(ctx context.Context) (list []IAMCert, err error) {
	return list, c.call(ctx, http.MethodGet, "/iamcerts", &list)
}

// RotateIAMCert makes a new IAMCERT for a profile. The error is a *Refusal when the cloud has none for it, or when too
// many former ones are still accepted.
func (c *Client) RotateIAMCert(ctx context.Context, profile int) (cert IAMCert, err error) {
	return cert, c.callWithin(ctx, keyTimeout, http.MethodPost, "/iamcert/rotate?profile="+strconv.Itoa(profile), &cert)
}

// RetireIAMCerts has the former IAMCERT of that serial, or all former ones when it is empty, accepted no more. The
// error is a *Refusal when it is not known, signs still, or is in use and force is not set.
func (c *Client) RetireIAMCerts(ctx context.Context, serial string, force bool) (list []IAMCert, err error) {
	q := url.Values{"serial": {serial}, "force": {strconv.FormatBool(force)}}
	return list, c.callWithin(ctx, keyTimeout, http.MethodPost, "/iamcert/retire?"+q.Encode(), &list)
}
