package operator

import (
	"context"
	"net/http"
	"net/url"
)

// AccountPolicy is a service control policy of an account: what its principals, the root user included, may do at most.
type AccountPolicy struct {
	Name     string `json:"name"`
	Document string `json:"document"`
}

func handleAccountPolicies(mux *http.ServeMux, backend Accounts) {
	mux.HandleFunc("GET /accounts/policies", func(w http.ResponseWriter, r *http.Request) {
		policies, err := backend.AccountPolicies(r.Context(), r.URL.Query().Get("account"))
		reply(w, policies, err)
	})
	mux.HandleFunc("POST /accounts/policies/put", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		policy := AccountPolicy{Name: q.Get("name"), Document: q.Get("document")}
		reply(w, struct{}{}, backend.PutAccountPolicy(r.Context(), q.Get("account"), policy))
	})
	mux.HandleFunc("POST /accounts/policies/remove", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		reply(w, struct{}{}, backend.RemoveAccountPolicy(r.Context(), q.Get("account"), q.Get("name")))
	})
}

// AccountPolicies returns an account's service control policies in order. The error is a *Refusal when no account has
// that name or number.
func (c *Client) AccountPolicies(ctx context.Context, account string) (policies []AccountPolicy, err error) {
	q := url.Values{"account": {account}}
	return policies, c.call(ctx, http.MethodGet, "/accounts/policies?"+q.Encode(), &policies)
}

// PutAccountPolicy adds a service control policy to an account, or replaces the one of the same name. The error is a
// *Refusal when the document is no policy, or too long, or the account has too many or can have none.
func (c *Client) PutAccountPolicy(ctx context.Context, account string, policy AccountPolicy) error {
	q := url.Values{"account": {account}, "name": {policy.Name}, "document": {policy.Document}}
	return c.call(ctx, http.MethodPost, "/accounts/policies/put?"+q.Encode(), &struct{}{})
}

// RemoveAccountPolicy takes a service control policy from an account. The error is a *Refusal when it has none of that
// name.
func (c *Client) RemoveAccountPolicy(ctx context.Context, account, name string) error {
	q := url.Values{"account": {account}, "name": {name}}
	return c.call(ctx, http.MethodPost, "/accounts/policies/remove?"+q.Encode(), &struct{}{})
}
