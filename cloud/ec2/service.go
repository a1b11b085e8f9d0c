// Package ec2 owns the cloud's instances: their records and states, the EC2 operations on them, their addresses
// and tags, and the sealed credential that an LBVM is started with. It also answers the nodes (NodeServer), since
// what a node is told and what it reports are the instances' records.
//
// Not in here: which node an instance goes to (package placement), what the node does with it (node/controller),
// who may call (package api and iam).
//
// Read records.go first, then launch.go, then nodeserver.go.
package ec2

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// IAM is what this package needs of package iam.
type IAM interface {
	InstanceProfile(ctx context.Context, accountID, nameOrARN string) (iam.InstanceProfile, error)
	WatchInstanceProfiles(ctx context.Context) (<-chan iam.ProfileChange, error)
	InstanceCredentials(ctx context.Context, accountID, roleName, instanceID string) (iam.SessionCredentials, error)
	SignLBCert(ctx context.Context, instanceID string, pub crypto.PublicKey, life time.Duration) (
		lbCert, iamCert []byte, err error)
	IAMCertificateOf(profile keydelivery.Profile) ([]byte, error)
	AuthorizePassRole(ctx context.Context, caller authn.Caller, roleARN, service, resourceARN string) error
	Authorize(ctx context.Context, caller authn.Caller, action string, resources []string,
		conditions map[string][]string) error
}

// Config of a Service. Store, IAM and Placement are required.
type Config struct {
	Store     *store.Store
	IAM       IAM
	Placement *placement.Service
	Journal   *journal.Journal
	Clock     func() time.Time // default time.Now
	Region    string           // default us-east-1
	Images    []ImageInfo
	// Seal and Open keep the key that signs identity documents closed in the store; purpose is bound to the sealed text.
	// Without them documents are not signed.
	Seal func(purpose string, plaintext keydelivery.Secret) (string, error)
	Open func(purpose, sealed string) (keydelivery.Secret, error)
	// UnprivilegedPorts: port P below 1024 of an instance is reached at P+8000, as the node may not bind it.
	UnprivilegedPorts bool
	// Services returns what nodes are told about the cloud's endpoints when they connect; nil means nothing.
	Services func() *nodelink.Services
	// TerminatedRetention is how long a terminated instance can still be described; default 1 h, as on EC2.
	TerminatedRetention time.Duration
	// Shorten, for tests of what happens at their end, says how long an LBCERT that is made now is valid instead; zero
	// means as long as ever. Nil means that for all.
	Shorten func(inst *Instance) time.Duration
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("ec2: Store is required"))
	}
	if c.IAM == nil {
		errs = append(errs, errors.New("ec2: IAM is required"))
	}
	if c.Placement == nil {
		errs = append(errs, errors.New("ec2: Placement is required"))
	}
	if c.TerminatedRetention < 0 {
		errs = append(errs, errors.New("ec2: TerminatedRetention must not be negative"))
	}
	seen := map[string]bool{}
	for _, image := range c.Images {
		if image.Name == "" || seen[image.Name] {
			errs = append(errs, fmt.Errorf("ec2: image name %q is empty or given twice", image.Name))
		}
		seen[image.Name] = true
		if p := image.DeliveryProfile; p < 0 || p > keydelivery.Profile2 {
			errs = append(errs, fmt.Errorf("ec2: delivery profile of image %s is %d, must be 1 or 2", image.Name, p))
		}
	}
	return errors.Join(errs...)
}

// Service is the cloud's EC2. Its methods may be called from any goroutine.
type Service struct {
	cfg       Config
	instances *store.Table[Instance]
	addresses *store.Table[addressRecord]
	tokens    *store.Table[tokenRecord]
	keyPairs  *store.Table[KeyPair]
	usage     *store.Table[usageRecord] // by account
	documents documentSigner
	images    imageTable
	pool      addressPool
	view      view
	sessions  sessions
	screens   screens
	lbKeys    lbKeys
	renewals  renewals

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New starts the service: it reads the instances and follows their records until Close.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.TerminatedRetention == 0 {
		cfg.TerminatedRetention = time.Hour
	}
	if cfg.Services == nil {
		cfg.Services = func() *nodelink.Services { return &nodelink.Services{Region: cfg.Region} }
	}
	s := &Service{
		cfg:       cfg,
		instances: store.NewTable[Instance](cfg.Store, "ec2-instances"),
		addresses: store.NewTable[addressRecord](cfg.Store, "ec2-addresses"),
		tokens:    store.NewTable[tokenRecord](cfg.Store, "ec2-client-tokens"),
		keyPairs:  store.NewTable[KeyPair](cfg.Store, "ec2-key-pairs"),
		usage:     store.NewTable[usageRecord](cfg.Store, "ec2-usage"),
		images:    newImageTable(cfg.Images),
	}
	s.documents = documentSigner{
		table:  store.NewTable[documentKeyRecord](cfg.Store, "ec2-document-keys"),
		region: cfg.Region, clock: cfg.Clock, seal: cfg.Seal, open: cfg.Open,
	}
	s.view.init()
	s.sessions.init()
	s.renewals.init()
	s.lbKeys.ready = make(chan lbKey, readyKeys)
	// The service outlives the call that starts it; Close ends it.
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.follow(); err != nil {
		s.cancel()
		return nil, fmt.Errorf("follow instances: %w", err)
	}
	s.done.Go(s.sweepLoop)
	s.done.Go(s.renewLoop)
	s.done.Go(s.followProfiles)
	if slices.ContainsFunc(cfg.Images, func(i ImageInfo) bool { return i.profile() == keydelivery.Profile1 }) {
		s.done.Go(func() { s.lbKeys.keep(s.ctx) })
	}
	return s, nil
}

// Close ends the service's goroutines and the nodes' connections. The records stay.
func (s *Service) Close() {
	s.cancel()
	s.done.Wait()
}

// follow keeps the view like the store until Close.
func (s *Service) follow() error {
	initial, changes, err := s.instances.WatchNews(s.ctx, "", s.view.known)
	if err != nil {
		return err
	}
	s.view.reset(initial)
	s.done.Go(func() {
		for {
			for c := range changes {
				if c.Value == nil {
					s.view.remove(c.Key)
				} else {
					s.view.put(*c.Value, c.Revision)
				}
			}
			for {
				if s.ctx.Err() != nil {
					return
				}
				if initial, changes, err = s.instances.WatchNews(s.ctx, "", s.view.known); err == nil {
					s.view.reset(initial)
					break
				}
				select {
				case <-s.ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}
	})
	return nil
}

// errUnchanged is what a change function returns when there is nothing to write.
var errUnchanged = errors.New("unchanged")

// update changes one instance's record and returns it as written. change may run several times. It must not alter what
// the record's maps and slices hold, since others look at them.
func (s *Service) update(ctx context.Context, id string,
	change func(tx *store.Tx, inst *Instance) error) (Instance, error) {
	var written Instance
	revision, err := s.cfg.Store.TxnRevision(ctx, func(tx *store.Tx) error {
		if e, ok := s.view.get(id); ok {
			s.instances.In(tx).Assume(id, e.inst, e.revision)
		}
		inst, err := s.instances.In(tx).Get(id)
		if err != nil {
			return err
		}
		written = inst
		if err := change(tx, &inst); err != nil {
			return err
		}
		inst.Version++
		written = inst
		return s.instances.In(tx).Put(id, inst)
	})
	if errors.Is(err, errUnchanged) {
		return written, nil
	}
	if err != nil {
		return Instance{}, err
	}
	s.view.put(written, revision)
	return written, nil
}

func (s *Service) record(ctx context.Context, kind, subject string, attributes map[string]string) {
	s.cfg.Journal.Record(ctx, journal.Event{
		Time: s.cfg.Clock(), Kind: kind, Subject: subject, Attributes: attributes,
	})
}

// recordState puts an instance's change of state into the journal.
func (s *Service) recordState(ctx context.Context, inst Instance) {
	ctx = traceOf(ctx, &inst)
	attributes := map[string]string{
		"state": string(inst.State), "account": inst.AccountID, "node": inst.NodeID, "image": inst.ImageName,
	}
	if inst.Reason.Code != "" {
		attributes["reasonCode"], attributes["reason"] = inst.Reason.Code, inst.Reason.Message
	}
	s.record(ctx, "instance.state", inst.ID, attributes)
}

// callerFrom returns who calls, or an error that no client should ever see.
func callerFrom(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	if caller.AccountID == "" {
		return caller, model.Errorf("AuthFailure", http.StatusUnauthorized, "the request has no caller")
	}
	return caller, nil
}
