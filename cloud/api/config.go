package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// Bounds of a request where Config leaves them open.
const (
	DefaultMaxBody = 1 << 20
	// DefaultRequestTimeout leaves room for a long poll of 60 s.
	DefaultRequestTimeout = 75 * time.Second
)

// IdentitySource knows secrets. Package iam implements it.
type IdentitySource interface {
	// Identify returns the secret of an access key and the principal behind it; sessionToken is empty for long-lived
	// keys. See authn.Lookup for its errors; a *model.Error with the same codes is as good.
	Identify(ctx context.Context, accessKeyID, sessionToken string) (secret string, caller authn.Caller, err error)
}

// Authorizer decides. Package iam implements it.
type Authorizer interface {
	// Authorize returns nil if caller may do action (iam:CreateUser) on every one of resources (ARNs, or "*"), and a
	// *model.Error that the caller is meant to see if not. conditions are
	// the keys that the operation's own parameters answer; those of the request itself, such as aws:SourceIp, follow from
	// the caller.
	Authorize(ctx context.Context, caller authn.Caller, action string, resources []string,
		conditions map[string][]string) error
}

// ResourcesFunc names the ARNs that an operation touches; nil means "*". An error is the answer to the request.
type ResourcesFunc func(ctx context.Context, operation string, caller authn.Caller, input any) ([]string, error)

// ConditionsFunc names the condition keys that an operation's own parameters answer. An error is the answer to the
// request.
type ConditionsFunc func(ctx context.Context, operation string, caller authn.Caller, input any) (
	map[string][]string, error)

// RawHandler answers an operation outside the AWS models, on the form as it was sent, each parameter once. It decides
// itself whether the caller (authn.CallerFrom) may. Errors are treated as those of typed operations.
type RawHandler func(ctx context.Context, form url.Values) (contentType string, body []byte, err error)

// Binding is one service behind the front door.
type Binding struct {
	// Service is what the service's model says of it: name, version, protocol.
	Service model.Service
	// Operations is the whole model, so that an operation without a handler can be told from one that AWS has not.
	Operations []model.Operation
	// Handlers are the operations that the service implements.
	Handlers map[string]model.Handler
	// Resources names what an operation touches; nil means "*" for all.
	Resources ResourcesFunc
	// SelfAuthorized names the operations that need no permission or check it themselves.
	SelfAuthorized map[string]bool
	// Conditions names the condition keys that are the operation's own, such as aws:RequestTag/KEY; nil means none.
	Conditions ConditionsFunc
	// Unsigned names the operations that callers without AWS credentials may call: what they send proves who they are.
	Unsigned map[string]bool
	// Raw are operations that the model does not have, by Action.
	Raw map[string]RawHandler
	// Refused is told, by operation, of requests whose HTTP signature does not hold.
	Refused map[string]RefusedFunc
}

// Config is what the front door needs. Identity and Authorizer must be set.
type Config struct {
	Identity   IdentitySource
	Authorizer Authorizer
	Services   []Binding
	// Journal takes one event per request, kind "api.request". Nil drops them.
	Journal *journal.Journal
	// Trouble, for tests, is asked before an operation is carried out for a caller who is known. It may wait, until ctx
	// ends; an error is the request's answer. Nil means that there is none.
	Trouble func(ctx context.Context, operation string) error
	// Logger takes the causes of our own faults; nil means slog.Default.
	Logger *slog.Logger
	// Clock tells the time of requests; nil means time.Now.
	Clock func() time.Time
	// MaxBody is the largest request body, in bytes; 0 means DefaultMaxBody.
	MaxBody int64
	// RequestTimeout ends the context of a handler; 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Identity == nil {
		errs = append(errs, errors.New("no identity source"))
	}
	if c.Authorizer == nil {
		errs = append(errs, errors.New("no authorizer"))
	}
	if c.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("largest body is %d bytes", c.MaxBody))
	}
	if c.RequestTimeout < 0 {
		errs = append(errs, fmt.Errorf("request timeout is %s", c.RequestTimeout))
	}
	raw := map[string]string{}
	for i, b := range c.Services {
		if b.Service.Name == "" || b.Service.Version == "" {
			errs = append(errs, fmt.Errorf("service %d has no name or version", i))
		}
		errs = append(errs, b.validate(raw)...)
	}
	if len(errs) > 0 {
		return fmt.Errorf("api configuration: %w", errors.Join(errs...))
	}
	return nil
}

// validate reports what is wrong with b. raw holds the raw operations of the services before it and learns b's.
func (b Binding) validate(raw map[string]string) (errs []error) {
	known := map[string]bool{}
	for _, op := range b.Operations {
		known[op.Name] = true
	}
	name := b.Service.Name
	for op := range b.Handlers {
		if !known[op] {
			errs = append(errs, fmt.Errorf("service %s: handler %s is no operation of the model", name, op))
		}
	}
	for op := range b.SelfAuthorized {
		if !known[op] {
			errs = append(errs, fmt.Errorf("service %s: self-authorized %s is no operation of the model", name, op))
		}
	}
	for action := range b.Raw {
		if other, twice := raw[action]; twice || known[action] {
			errs = append(errs, fmt.Errorf("service %s: raw operation %s exists already %s", name, action, other))
		}
		raw[action] = "in " + name
	}
	return errs
}

// New returns the front door. It serves POST and GET of / and /services/NAME/, and GET of /healthz, which needs no
// signature and answers 200 "ok".
func New(c Config) (http.Handler, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = DefaultRequestTimeout
	}
	d := &door{config: c, routes: newRoutes(c.Services), verifier: authn.Verifier{Clock: c.Clock}}
	return d, nil
}
