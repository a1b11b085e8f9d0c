package operator

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// LBVMs is what an operator can do about load balancers' VMs. An error that is a *Refusal is the operator's own
// mistake.
type LBVMs interface {
	// RevokeLBVM withdraws the identity of a load balancer's VM and ends it, and returns what it then is. PeerFrom tells
	// who asks, for the audit.
	RevokeLBVM(ctx context.Context, instanceID, reason string) (Instance, error)
	// RenewLBVM has the identity of a load balancer's VM renewed now, and returns what it then is.
	RenewLBVM(ctx context.Context, instanceID string) (Instance, error)
}

// Refusal is an answer to what cannot be done as it was asked, and says why.
type Refusal struct{ Message string }

func (r *Refusal) Error() string { return r.Message }

// refusalOf is the refusal that an error holds, nil for any other error.
func refusalOf(err error) *Refusal {
	refusal, _ := errors.AsType[*Refusal](err)
	return refusal
}

func handleLBVMs(mux *http.ServeMux, backend LBVMs) {
	mux.HandleFunc("POST /lbvms/revoke", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		instance, err := backend.RevokeLBVM(r.Context(), q.Get("instance"), q.Get("reason"))
		reply(w, instance, err)
	})
	mux.HandleFunc("POST /lbvms/renew", func(w http.ResponseWriter, r *http.Request) {
		instance, err := backend.RenewLBVM(r.Context(), r.URL.Query().Get("instance"))
		reply(w, instance, err)
	})
}

// RevokeLBVM withdraws the identity of a load balancer's VM and ends it. The error is a *Refusal when the instance is
// no such VM, is not known or has ended.
func (c *Client) RevokeLBVM(ctx context.Context, instanceID, reason string) (instance Instance, err error) {
	q := url.Values{"instance": {instanceID}, "reason": {reason}}
	return instance, c.call(ctx, http.MethodPost, "/lbvms/revoke?"+q.Encode(), &instance)
}

// RenewLBVM has the identity of a load balancer's VM renewed now. The error is as that of RevokeLBVM.
func (c *Client) RenewLBVM(ctx context.Context, instanceID string) (instance Instance, err error) {
	q := url.Values{"instance": {instanceID}}
	return instance, c.call(ctx, http.MethodPost, "/lbvms/renew?"+q.Encode(), &instance)
}
