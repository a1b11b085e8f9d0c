package authn

import "context"

// CallerKind says what sort of principal signed a request.
type CallerKind string

// The kinds of caller. An empty kind is nobody and is allowed nothing.
const (
	KindRoot CallerKind = "Root"
	KindUser CallerKind = "User"
	KindRole CallerKind = "AssumedRole"
	// KindFederated is a federated user, of GetFederationToken.
	KindFederated CallerKind = "FederatedUser"
)

// Caller is the principal behind an authenticated request. The zero Caller is nobody.
type Caller struct {
	Kind      CallerKind
	AccountID string // twelve digits
	// System marks the accounts that the cloud's own services use. Only they may use the credential keyword.
	System      bool
	ARN         string // arn:aws:iam::ACCOUNT:root, …:user/PATH/NAME, arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
	UserID      string // account id for root, AIDA… for a user, AROA…:SESSION for a role session
	UserName    string // set for KindUser
	RoleName    string // set for KindRole
	RoleARN     string // set for KindRole
	SessionName string // set for KindRole
	// InstanceID is set only when the cloud itself made this role session for an instance. A session whose
	// caller chose an instance id as its session name through AssumeRole leaves it empty.
	InstanceID    string
	SessionPolicy string // the inline policy that AssumeRole was given, or empty
	// Session is set for temporary credentials and nil for others.
	Session     *Session
	AccessKeyID string
	RequestID   string
	SourceIP    string
	// UserAgent is what the client calls itself; empty when it does not say.
	UserAgent string
	// Transport is how the request came; TransportUnknown for one that did not come over the network.
	Transport Transport
}

// Transport is the kind of connection that a request came over.
type Transport int8

// The transports.
const (
	TransportUnknown Transport = iota
	TransportPlain
	TransportTLS
)

type callerKey struct{}

// WithCaller returns a context that carries c to the operation's handler.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller that api put into ctx, or the zero Caller, which is allowed nothing.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
