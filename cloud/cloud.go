// Package cloud puts a control plane together: store, services, the front door for users, nodelink for nodes. It
// ties nothing to a hypervisor; a node reaches it through nodelink like any other. Only commands and suites start
// one.
//
// Read Start, then package api (how a request is answered) and the journey of a key: iam, elb, ec2, keydelivery.
package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// The cloud's accounts: one for its own services, one for its first user.
const (
	SystemAccountID = "000000000001"
	SystemAccount   = "cloudtwin-system"
	UserAccountID   = "123456789012"
	UserAccount     = "demo"
)

// guestAPI is where guests reach the API inside their network.
const guestAPI = "169.254.169.253"

// guestPlainPort is the port of the API over HTTP there, for original guests: their web services' usual one.
const guestPlainPort = "8773"

// lbvmImage is the image of load-balancer VMs.
const lbvmImage = "lbvm"

// Config of a Cloud. Dir and Images are required.
type Config struct {
	// Dir holds etcd (unless StoreEndpoints are given) and the root key.
	Dir string
	// StoreEndpoints of an external etcd cluster; none means an embedded server.
	StoreEndpoints []string
	// StoreTimeout bounds each question to that cluster; what needs the answer then fails with store.ErrUnreachable. Zero
	// means store.DefaultAnswerTimeout.
	StoreTimeout time.Duration
	// RootKey names a key on a PKCS#11 token that takes the place of the root key's file, see iam.ParseTokenURI; empty
	// means the file.
	RootKey string
	// Journal is the file of events.
	Journal string
	// Faults is the file that keeps the faults which are loaded; empty means none.
	Faults string
	// APIAddress is host:port of the API over HTTP; default 127.0.0.1:0, a free port.
	APIAddress string
	// TLSAddress is host:port of the API over TLS; default 127.0.0.1:0.
	TLSAddress string
	// NodeAddress is host:port for nodes; default 127.0.0.1:0.
	NodeAddress string
	// Region defaults to us-east-1.
	Region string
	// Images that instances can be started from.
	Images []ec2.ImageInfo
	// UnprivilegedPorts: see elb.Config.
	UnprivilegedPorts bool
	// Replicas is the number of LBVMs per load balancer; default 1.
	Replicas int
	// LBCertLife is how long an LBCERT of a load balancer's VM is valid, at least elb.MinLBCertLife; default 365 days. It
	// is renewed before its end.
	LBCertLife time.Duration
	// LBVMOwner says in whose account LBVMs run; default elb.OwnerSystem.
	LBVMOwner elb.Owner
	// RoleCredentialsLife is how long the credentials of an instance's role are valid, 15 minutes to 12 hours; default
	// 6 h. New ones are there 5 minutes before their end.
	RoleCredentialsLife time.Duration
	// TerminatedRetention is how long a terminated instance can still be described; default 1 h.
	TerminatedRetention time.Duration
	// MinDeliveryProfile is the least profile of the key-delivery protocol that is answered, 1 or 2; zero means 1 when
	// an image is registered as profile 1, else 2.
	MinDeliveryProfile keydelivery.Profile
	Clock              func() time.Time // default time.Now
	Logger             *slog.Logger     // default slog.Default
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("cloud: Dir is required"))
	}
	if len(c.Images) == 0 {
		errs = append(errs, errors.New("cloud: Images are required"))
	}
	if c.Journal == "" {
		errs = append(errs, errors.New("cloud: Journal is required"))
	}
	return errors.Join(append(errs, c.checkProfiles())...)
}

// checkProfiles refuses an image whose guests the cloud would refuse.
func (c Config) checkProfiles() error {
	if p := c.MinDeliveryProfile; p < 0 || p > keydelivery.Profile2 {
		return fmt.Errorf("cloud: MinDeliveryProfile is %d, must be 1 or 2", p)
	}
	if c.MinDeliveryProfile != keydelivery.Profile2 {
		return nil
	}
	for _, image := range c.Images {
		if image.DeliveryProfile == keydelivery.Profile1 {
			return fmt.Errorf("cloud: image %s is registered as delivery profile 1, and the least profile answered is 2",
				image.Name)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.MinDeliveryProfile == 0 {
		c.MinDeliveryProfile = keydelivery.Profile2
		for _, image := range c.Images {
			if image.DeliveryProfile == keydelivery.Profile1 {
				c.MinDeliveryProfile = keydelivery.Profile1
			}
		}
	}
	for _, address := range []*string{&c.APIAddress, &c.TLSAddress, &c.NodeAddress} {
		if *address == "" {
			*address = "127.0.0.1:0"
		}
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Cloud is a running control plane.
type Cloud struct {
	cfg       Config
	journal   *journal.Journal
	store     *store.Store
	iam       *iam.Service
	placement *placement.Service
	ec2       *ec2.Service
	elb       *elb.Service
	faults    *play.Player

	api, apiTLS net.Listener
	handed      *handed // connections to apiTLS that come from within the process
	nodes       net.Listener
	http        []*http.Server
	grpc        *grpc.Server
	serving     sync.WaitGroup
	closers     []func() error // in the order of their making

	shutdown chan struct{}
	once     sync.Once
}

// Start starts a control plane and returns when it answers. Close ends it.
func Start(ctx context.Context, cfg Config) (*Cloud, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Cloud{cfg: cfg.withDefaults(), shutdown: make(chan struct{})}
	for _, step := range []func(context.Context) error{c.openRecords, c.startServices, c.listen, c.serve} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func (c *Cloud) openRecords(ctx context.Context) (err error) {
	sc := store.Config{Endpoints: c.cfg.StoreEndpoints, AnswerTimeout: c.cfg.StoreTimeout, Trouble: c.storeTrouble,
		Written: c.recordWrites}
	if len(sc.Endpoints) == 0 {
		sc.Dir = c.cfg.Dir
	}
	if c.store, err = store.Open(ctx, sc); err != nil {
		return err
	}
	c.onClose(c.store.Close)
	if c.journal, err = journal.Open(c.cfg.Journal); err != nil {
		return err
	}
	c.onClose(c.journal.Close)
	c.recordStart(ctx)
	c.openFaults()
	return nil
}

func (c *Cloud) startServices(ctx context.Context) (err error) {
	cfg := c.cfg
	c.iam, err = iam.New(ctx, iam.Config{Store: c.store, Journal: c.journal, Clock: cfg.Clock, Region: cfg.Region,
		RootKeyFile: filepath.Join(cfg.Dir, iam.RootKeyFileName), RootKeyURI: cfg.RootKey,
		Revoked: c.whyRevoked, SessionRevoked: c.sessionRevoked,
		InstanceSessionLife: cfg.RoleCredentialsLife,
		MinDeliveryProfile:  cfg.MinDeliveryProfile, Shorten: c.shortenSession})
	if err != nil {
		return err
	}
	c.onClose(func() error { c.iam.Close(); return nil })
	if _, err := c.iam.EnsureAccount(ctx, SystemAccountID, SystemAccount, true); err != nil {
		return err
	}
	if _, err := c.iam.EnsureAccount(ctx, UserAccountID, UserAccount, false); err != nil {
		return err
	}
	ca, err := placement.OpenCA(
		ctx,
		placement.CAConfig{Store: c.store, Seal: c.iam.Seal, Open: c.iam.Open, Clock: cfg.Clock},
	)
	if err != nil {
		return err
	}
	if c.placement, err = placement.New(ctx, placement.Config{Store: c.store, CA: ca, Journal: c.journal,
		Clock: cfg.Clock}); err != nil {
		return err
	}
	c.onClose(func() error { c.placement.Close(); return nil })
	if c.ec2, err = ec2.New(ctx, ec2.Config{Store: c.store, IAM: c.iam, Placement: c.placement, Journal: c.journal,
		Clock: cfg.Clock, Region: cfg.Region, Images: cfg.Images, Services: c.nodeServices,
		UnprivilegedPorts: cfg.UnprivilegedPorts, Seal: c.iam.Seal, Open: c.iam.Open,
		TerminatedRetention: cfg.TerminatedRetention, Shorten: c.shortenLBCert}); err != nil {
		return err
	}
	c.onClose(func() error { c.ec2.Close(); return nil })
	c.followIAMCerts()
	if c.elb, err = elb.New(ctx, elb.Config{Store: c.store, IAM: c.iam, EC2: c.ec2, Journal: c.journal,
		Clock: cfg.Clock, Region: cfg.Region, SystemAccountID: SystemAccountID, Replicas: cfg.Replicas,
		UnprivilegedPorts: cfg.UnprivilegedPorts, OriginalGuestAddress: cfg.originalGuestAddress(),
		LBCertLife: cfg.LBCertLife, Owner: cfg.LBVMOwner}); err != nil {
		return err
	}
	c.onClose(func() error { c.elb.Close(); return nil })
	c.iam.SetResourceKeys("ec2", c.ec2)
	c.iam.SetResourceKeys("elasticloadbalancing", c.elb)
	c.iam.SetLinkedRoleUse(c.elb.LoadBalancersOf)
	return nil
}

// originalGuestAddress is where LBVMs of an original image reach the API; empty when they are ours.
func (c Config) originalGuestAddress() string {
	for _, image := range c.Images {
		if image.Name == lbvmImage && image.DeliveryProfile == keydelivery.Profile1 {
			return net.JoinHostPort(guestAPI, guestPlainPort)
		}
	}
	return ""
}

// whyRevoked and sessionRevoked ask ec2, which is made after iam; nobody is answered before it is there.
func (c *Cloud) whyRevoked(ctx context.Context, cert *x509.Certificate) (string, error) {
	return c.ec2.WhyRevoked(ctx, cert)
}

func (c *Cloud) sessionRevoked(instanceID string) bool { return c.ec2.SessionRevoked(instanceID) }

func (c *Cloud) onClose(f func() error) { c.closers = append(c.closers, f) }

// stopTimeout is how long requests under way may take when the cloud ends.
const stopTimeout = 2 * time.Second

// Close ends the control plane. Nodes and guests go on without it.
func (c *Cloud) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	for _, s := range c.http {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, s.Close())
		}
	}
	if c.grpc != nil {
		c.grpc.Stop()
	}
	c.serving.Wait()
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close cloud: %w", err)
	}
	return nil
}
