package imds

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Errors that a Source returns and that the service turns into the answer a guest sees.
var (
	// ErrNoRole means that the instance has no role: 404, as for any item that is not there.
	ErrNoRole = errors.New("instance has no role")
	// ErrUnauthorized means that the cloud refuses to assume the role. The guest gets a document whose Code says
	// so, as the real service does, since asking again at once is of no use.
	ErrUnauthorized = errors.New("role may not be assumed")
)

// Source is where the service learns what an instance is. Methods may be called from any goroutine.
type Source interface {
	// Instance returns what the service tells about an instance. The answer is read, never written to.
	Instance(id string) (Instance, bool)
	// RoleCredentials returns the credentials of the instance's role, new ones at least five minutes before the
	// old ones end. It is called with a short deadline. ErrNoRole, ErrUnauthorized, or any other error, which the
	// guest sees as 503, to be tried again.
	RoleCredentials(ctx context.Context, id string) (Credentials, error)
}

// Signer is a Source that has identity documents signed. One that is not has them unsigned.
type Signer interface {
	// Signatures returns the cloud's signatures of an instance's identity document. It is called with a short deadline.
	// Any error is seen by the guest as 503, to be tried again.
	Signatures(ctx context.Context, id string) (Signatures, error)
}

// Signatures of an identity document, each in base64.
type Signatures struct {
	Signature string // RSA, PKCS #1 v1.5 over SHA-256
	PKCS7     string // signed data with the document in it
	RSA2048   string // the same
}

// Instance is what the metadata of one instance is made from. Empty fields are left out of the listings, except
// where a comment says otherwise.
type Instance struct {
	ID            string
	AccountID     string // twelve digits
	ImageID       string // ami-…
	Type          string // t3.nano
	Architecture  string // empty means x86_64
	ReservationID string // r-…
	LaunchIndex   int
	LaunchTime    time.Time

	PrivateIP netip.Addr
	PublicIP  netip.Addr // the zero value means none
	MAC       string     // xx:xx:xx:xx:xx:xx, lower case
	Hostname  string     // empty means ip-10-64-0-5.ec2.internal, made from PrivateIP
	// SecurityGroups are the names of the groups; none means "default".
	SecurityGroups []string

	Region             string
	AvailabilityZone   string
	AvailabilityZoneID string // use1-az1

	RoleName            string // empty means that there are no credentials; without a profile too, no iam folder
	InstanceProfileARN  string
	InstanceProfileID   string    // empty beside an ARN: the profile was deleted
	InstanceProfileTime time.Time // when the profile was attached; zero means LaunchTime

	// Traceparent is the step of a trace that led to the instance (W3C Trace Context). A guest that was told it by no
	// medium learns it with its session token. Empty: none.
	Traceparent string

	UserData   []byte // at most 16 KB; nil means none
	PublicKeys []PublicKey
	Tags       map[string]string // told only with Options.Tags

	Options Options
}

// Options are the metadata options of an instance. The zero value is what EC2 gives by default.
type Options struct {
	TokensRequired bool // http-tokens: required; requests without a token get 401
	Disabled       bool // http-endpoint: disabled; every request gets 403
	// HopLimit is how many hops the answer to a token request may travel, 1 to 64; 0 means 1.
	HopLimit int
	Tags     bool // instance-metadata-tags: enabled
}

// PublicKey is an SSH key that the instance was launched with.
type PublicKey struct {
	Name string
	Key  string // one line in OpenSSH's format
}

// Credentials are a role session's. SecretAccessKey and Token are secret: a Credentials value is never logged.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	Token           string
	LastUpdated     time.Time
	Expiration      time.Time
}

// String keeps the secret parts out of logs and errors.
func (c Credentials) String() string { return "credentials " + c.AccessKeyID + " [redacted]" }

// GoString is String.
func (c Credentials) GoString() string { return c.String() }
