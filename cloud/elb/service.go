// Package elb is the classic Elastic Load Balancing API: load balancers, their listeners, back-end instances,
// health checks, attributes and tags; and what makes them real: a role and grants in iam, a load-balancer VM
// (LBVM) in ec2, an address on the host's loopback, and the description that the LBVM's agent asks for.
//
// The load balancer's record is the intent. An API call writes it, does what is cheap at once (so that a grant is
// there before the guest asks for the key), and a reconcile loop makes the rest follow, also after a crash.
//
// Not in here: the key's delivery (packages iam and keydelivery; elb never sees a key), what the guest does
// (lbvm-image/agent), how a port reaches the host (node/vnet). Read records.go first, then create.go, grants.go,
// reconcile.go and servo.go.
package elb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// IAM is what this package needs of package iam.
type IAM interface {
	// ServerCertificateRevision changes when the key or certificate behind the ARN does; an error with code
	// NoSuchEntity means that there is none.
	ServerCertificateRevision(ctx context.Context, arn string) (revision string, err error)
	// WatchServerCertificates sends the ARN of every server certificate that is made, replaced or removed.
	WatchServerCertificates(ctx context.Context) (<-chan string, error)
	// SetCertificateUseCheck has iam ask before it deletes a certificate.
	SetCertificateUseCheck(check func(ctx context.Context, arn string) (user string, inUse bool, err error))
	// SetCertificateRename has iam tell, in the renaming's transaction, when a certificate gets another ARN.
	SetCertificateRename(follow func(ctx context.Context, tx *store.Tx, from, to string) ([]iam.GrantMove, error))
	// HoldCertificate makes sure, in a transaction that has by name the certificate, that it is there at its end.
	HoldCertificate(tx *store.Tx, arn, by string) error
	EnsureServiceRole(ctx context.Context, role iam.ServiceRole) error
	PutServiceRolePolicy(ctx context.Context, accountID, role, name, document string) error
	DeleteServiceRolePolicy(ctx context.Context, accountID, role, name string) error
	DeleteServiceRole(ctx context.Context, accountID, name string) error
	// LinkedAccount returns the system account that stands for another one, and makes it when there is none.
	LinkedAccount(ctx context.Context, prefix, accountID string) (iam.Account, error)
	// AssumeForService is AssumeRole for a service of the cloud, which the role must trust.
	AssumeForService(ctx context.Context, accountID, role, service, session string) (authn.Caller, error)
	Authorize(ctx context.Context, caller authn.Caller, action string, resources []string,
		conditions map[string][]string) error
}

// EC2 is what this package needs of package ec2.
type EC2 interface {
	Launch(ctx context.Context, launch ec2.Launch) (ec2.Instance, error)
	Terminate(ctx context.Context, accountID string, ids ...string) error
	Instance(ctx context.Context, id string) (ec2.Instance, error)
	// WatchInstances sends every instance that there is, then each again when it changes.
	WatchInstances(ctx context.Context) (<-chan ec2.Instance, error)
	SetExposures(ctx context.Context, instanceID string, exposures []ec2.Exposure) error
}

var (
	_ IAM = (*iam.Service)(nil)
	_ EC2 = (*ec2.Service)(nil)
)

// Config of a Service. Store, IAM, EC2 and SystemAccountID are required.
type Config struct {
	Store   *store.Store
	IAM     IAM
	EC2     EC2
	Journal *journal.Journal
	Clock   func() time.Time // default time.Now
	Region  string           // default us-east-1
	// SystemAccountID owns the LBVMs' roles, and the LBVMs themselves unless Owner says otherwise.
	SystemAccountID string
	// Owner says in whose account new LBVMs run; default OwnerSystem. Those that run stay where they are.
	Owner Owner
	// Replicas is the number of LBVMs per load balancer, 1 to 10; default 1. The oldest one that lives has the
	// load balancer's address.
	Replicas int
	// LBCertLife is how long an LBVM's LBCERT is valid, MinLBCertLife to MaxLBCertLife; default 365 days. It is renewed
	// before its end.
	LBCertLife time.Duration
	// Image and InstanceType of an LBVM; default lbvm and ec2's default type.
	Image        string
	InstanceType string
	// OriginalGuestAddress is set when Image holds an original Eucalyptus guest (delivery profile 1): host:port of the
	// API over plain HTTP in the guests' network, which the LBVMs' user data then tells.
	OriginalGuestAddress string
	// Addresses is where load balancers get their addresses from, within 127.0.0.0/8; default 127.64.0.0/10.
	Addresses netip.Prefix
	// UnprivilegedPorts is set when this host does not let the process bind ports below 1024: port P is then
	// exposed as P+8000.
	UnprivilegedPorts bool
	// RetryMin and RetryMax bound the pause before a failed step is tried again, and before an LBVM that did not
	// live long is replaced; default 200 ms and 10 s.
	RetryMin, RetryMax time.Duration
	// Intervals is what guests are told; default: describe every 10 s (if they cannot wait for changes), metrics
	// every 60 s, health every 3 s.
	Intervals servo.Intervals
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("elb: Store is required"))
	}
	if c.IAM == nil {
		errs = append(errs, errors.New("elb: IAM is required"))
	}
	if c.EC2 == nil {
		errs = append(errs, errors.New("elb: EC2 is required"))
	}
	if c.SystemAccountID == "" {
		errs = append(errs, errors.New("elb: SystemAccountID is required"))
	}
	if err := c.Owner.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("elb: Owner: %w", err))
	}
	if c.Replicas < 0 || c.Replicas > 10 {
		errs = append(errs, fmt.Errorf("elb: Replicas is %d, must be 1 to 10", c.Replicas))
	}
	if c.Addresses.IsValid() && (!loopback.Contains(c.Addresses.Addr()) || c.Addresses.Bits() < loopback.Bits()) {
		errs = append(errs, fmt.Errorf("elb: Addresses is %s, must lie within %s", c.Addresses, loopback))
	}
	if c.RetryMin < 0 || c.RetryMax < 0 || (c.RetryMax > 0 && c.RetryMin > c.RetryMax) {
		errs = append(errs, fmt.Errorf("elb: RetryMin %s and RetryMax %s must be positive and in order",
			c.RetryMin, c.RetryMax))
	}
	return errors.Join(append(errs, c.checkLBCertLife())...)
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.LBCertLife == 0 {
		c.LBCertLife = keydelivery.DefaultDays * 24 * time.Hour
	}
	if c.Image == "" {
		c.Image = "lbvm"
	}
	if !c.Addresses.IsValid() {
		c.Addresses = netip.MustParsePrefix("127.64.0.0/10")
	}
	if c.RetryMin == 0 {
		c.RetryMin = 200 * time.Millisecond
	}
	if c.RetryMax == 0 {
		c.RetryMax = max(10*time.Second, c.RetryMin)
	}
	if c.Intervals == (servo.Intervals{}) {
		c.Intervals = servo.Intervals{GetLBInterval: 10, PutMetricInterval: 60, PutInstanceHealthInterval: 3}
	}
	return c
}

// Service is the cloud's load balancing. Its methods may be called from any goroutine.
type Service struct {
	cfg       Config
	records   *store.Table[LoadBalancer]
	addresses *store.Table[addressRecord]
	view      view
	guests    guests
	health    health
	queue     queue
	locks     keyedLocks

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// reconcilers is how many load balancers are worked on at the same time.
const reconcilers = 4

// New starts the service: it takes up what an earlier process left undone and follows the load balancers'
// records, instances and certificates until Close.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Service{
		cfg:       cfg,
		records:   store.NewTable[LoadBalancer](cfg.Store, "elb-load-balancers"),
		addresses: store.NewTable[addressRecord](cfg.Store, "elb-addresses"),
	}
	// The service outlives the call that starts it; Close ends it.
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.view.init()
	s.guests.init()
	s.health.init()
	s.queue.init(s.ctx)
	s.locks.init()
	cfg.IAM.SetCertificateUseCheck(s.certificateUse)
	cfg.IAM.SetCertificateRename(s.followRename)
	if err := s.follow(); err != nil {
		s.Close()
		return nil, fmt.Errorf("start elb: %w", err)
	}
	for range reconcilers {
		s.done.Go(s.reconcileLoop)
	}
	return s, nil
}

// Close ends the service's goroutines and long polls. Load balancers and their LBVMs stay.
func (s *Service) Close() {
	s.cancel()
	s.done.Wait()
}

// account returns whose load balancers a call is about.
func account(ctx context.Context) string { return authn.CallerFrom(ctx).AccountID }
