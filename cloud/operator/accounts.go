package operator

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Accounts is what an operator can do about accounts. An error that is a *Refusal is the operator's own mistake.
type Accounts interface {
	// ListAccounts returns all accounts in the order of their numbers, with what is accounted to them.
	ListAccounts(ctx context.Context) ([]Account, error)
	// CreateAccount makes an account; an empty id means that one is chosen.
	CreateAccount(ctx context.Context, name, id string) (Account, error)
	// AccountKeys gives keys of the root user of the account with that name or number.
	AccountKeys(ctx context.Context, account string) (Credentials, error)
	// AccountPolicies returns the service control policies of the account with that name or number, in order.
	AccountPolicies(ctx context.Context, account string) ([]AccountPolicy, error)
	// PutAccountPolicy adds a service control policy to an account, or replaces the one of the same name.
	PutAccountPolicy(ctx context.Context, account string, policy AccountPolicy) error
	// RemoveAccountPolicy takes a service control policy from an account.
	RemoveAccountPolicy(ctx context.Context, account, name string) error
}

// Account is an account of the cloud.
type Account struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	System   bool      `json:"system,omitempty"`   // the cloud's own
	LinkedTo string    `json:"linkedTo,omitempty"` // the account on whose behalf a service made it
	Created  time.Time `json:"created"`
	// Instances are its own that live. LoadBalancerVMs are those that live for its load balancers, whoever owns them,
	// and MemoryMB is what both take.
	Instances       int `json:"instances"`
	LoadBalancerVMs int `json:"loadBalancerVMs"`
	MemoryMB        int `json:"memoryMB"`
	// Ended and EndedLoadBalancerVMs are those of both kinds that have ended, since the account was made.
	Ended                int `json:"ended"`
	EndedLoadBalancerVMs int `json:"endedLoadBalancerVMs"`
	// InstanceHours and LoadBalancerHours are how long those that live and those that have ended were there, from launch
	// to end, all together.
	InstanceHours     float64 `json:"instanceHours"`
	LoadBalancerHours float64 `json:"loadBalancerHours"`
}

func handleAccounts(mux *http.ServeMux, backend Accounts) {
	handleAccountPolicies(mux, backend)
	mux.HandleFunc("GET /accounts", func(w http.ResponseWriter, r *http.Request) {
		accounts, err := backend.ListAccounts(r.Context())
		reply(w, accounts, err)
	})
	mux.HandleFunc("POST /accounts/create", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		account, err := backend.CreateAccount(r.Context(), q.Get("name"), q.Get("id"))
		reply(w, account, err)
	})
	mux.HandleFunc("POST /accounts/keys", func(w http.ResponseWriter, r *http.Request) {
		keys, err := backend.AccountKeys(r.Context(), r.URL.Query().Get("account"))
		reply(w, keys, err)
	})
}

// ListAccounts returns all accounts in the order of their numbers.
func (c *Client) ListAccounts(ctx context.Context) (accounts []Account, err error) {
	return accounts, c.call(ctx, http.MethodGet, "/accounts", &accounts)
}

// CreateAccount makes an account; an empty id means that one is chosen. The error is a *Refusal when name or number
// is taken or not as it must be.
func (c *Client) CreateAccount(ctx context.Context, name, id string) (account Account, err error) {
	q := url.Values{"name": {name}, "id": {id}}
	return account, c.call(ctx, http.MethodPost, "/accounts/create?"+q.Encode(), &account)
}

// AccountKeys gives keys of an account's root user, made when they are first asked for. The error is a *Refusal when
// no account has that name or number.
func (c *Client) AccountKeys(ctx context.Context, account string) (keys Credentials, err error) {
	q := url.Values{"account": {account}}
	return keys, c.call(ctx, http.MethodPost, "/accounts/keys?"+q.Encode(), &keys)
}
