package iam

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// useCheck tells whether somebody still uses a server certificate, and who, in words for the error message.
type useCheck func(ctx context.Context, arn string) (user string, inUse bool, err error)

// Service is identity and access management. Its methods may be called from any goroutine.
type Service struct {
	cfg       Config
	keys      *keyring
	checker   *keydelivery.Checker
	policies  *policy.Cache
	useCheck  atomic.Pointer[useCheck]
	renames   atomic.Pointer[renameCheck]
	linkedUse atomic.Pointer[LinkedRoleUse]
	// resourceKeys is replaced as a whole.
	resourceKeys atomic.Pointer[map[string]ResourceKeys]
	sessions     *sessionCache
	refusals     refusals
	targets      map[string]resolver

	reloading  sync.Mutex // held while identities are read, so that older ones do not replace newer ones
	resealed   atomic.Pointer[string]
	onRotation atomic.Pointer[func()]
	iamCertUse atomic.Pointer[func(ctx context.Context, iamCert *x509.Certificate) (int, error)]
	settle     chan struct{}

	accounts   *table[accountRecord, *accountRecord]
	users      *table[userRecord, *user]
	roles      *table[roleRecord, *role]
	groups     *table[groupRecord, *group]
	groupIDs   *table[groupIDRecord, *groupIDRecord]
	members    *store.Table[memberRecord] // by account, group's id and user
	managed    *table[managedRecord, *managed]
	policyUses *store.Table[policyUses] // by account and the policy's ARN
	// policyHolders is by account, the policy's ARN and who has it.
	policyHolders *store.Table[holderUse]
	devices       *table[deviceRecord, *deviceRecord]
	signing       *store.Table[signingRecord] // by account and id
	providers     *table[providerRecord, *providerRecord]
	controls      *table[controlRecord, *control]
	aliases       *store.Table[aliasRecord] // by alias
	jobs          *store.Table[accessJob]   // by account and id
	reports       *store.Table[credentialReport]
	uselog        *useLog
	profiles      *table[profileRecord, *profileRecord]
	accessKeys    *table[accessKeyRecord, *accessKey]
	certificates  *table[certificateRecord, *certificateRecord]
	uses          *store.Table[useRecord] // by account and certificate id

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New opens the service's keys, or makes them at the first start, and follows the store until Close is called; ctx is
// for the start alone. ErrRootKeyMissing, ErrRootKeyDamaged and ErrRootKeyMode say what is wrong with the root key
// file.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	keys, err := openKeyring(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, keys: keys, policies: policy.NewCache(cfg.CacheSize), sessions: newSessionCache(cfg.CacheSize),
		checker: newChecker(keys, cfg), settle: make(chan struct{}, 1),
	}
	s.targets = s.resolvers()
	s.accounts = newTable(cfg.Store, "iam-accounts", cfg.CacheSize, same[accountRecord])
	s.users = newTable(cfg.Store, "iam-users", cfg.CacheSize, s.compileUser)
	s.roles = newTable(cfg.Store, "iam-roles", cfg.CacheSize, s.compileRole)
	s.groups = newTable(cfg.Store, "iam-groups", cfg.CacheSize, s.compileGroup)
	s.groupIDs = newTable(cfg.Store, "iam-group-ids", cfg.CacheSize, same[groupIDRecord])
	s.members = store.NewTable[memberRecord](cfg.Store, "iam-group-members")
	s.managed = newTable(cfg.Store, "iam-policies", cfg.CacheSize, s.compileManaged)
	s.policyUses = store.NewTable[policyUses](cfg.Store, "iam-policy-uses")
	s.policyHolders = store.NewTable[holderUse](cfg.Store, "iam-policy-holders")
	s.devices = newTable(cfg.Store, "iam-mfa-devices", cfg.CacheSize, same[deviceRecord])
	s.signing = store.NewTable[signingRecord](cfg.Store, "iam-signing-certificates")
	s.providers = newTable(cfg.Store, "iam-identity-providers", cfg.CacheSize, same[providerRecord])
	s.aliases = store.NewTable[aliasRecord](cfg.Store, "iam-account-aliases")
	s.jobs = store.NewTable[accessJob](cfg.Store, "iam-access-reports")
	s.reports = store.NewTable[credentialReport](cfg.Store, "iam-credential-reports")
	s.uselog = newUseLog(cfg.Store, cfg.CacheSize, cfg.Clock)
	s.controls = newTable(cfg.Store, "iam-service-control", cfg.CacheSize, s.compileControl).orZero(s.compileControl)
	s.profiles = newTable(cfg.Store, "iam-instance-profiles", cfg.CacheSize, same[profileRecord])
	s.accessKeys = newTable(cfg.Store, "iam-access-keys", cfg.CacheSize, s.compileAccessKey)
	s.certificates = newTable(cfg.Store, "iam-server-certificates", cfg.CacheSize, same[certificateRecord])
	s.uses = store.NewTable[useRecord](cfg.Store, "iam-certificate-uses")
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	if err := s.follow(life); err != nil {
		s.Close()
		return nil, fmt.Errorf("watch IAM records: %w", err)
	}
	s.done.Go(func() { s.settleLoop(life) })
	s.done.Go(func() { s.uselog.run(life) })
	return s, nil
}

func same[T any](rec *T) (*T, error) { return rec, nil }

// follow starts the watches and waits until each runs.
func (s *Service) follow(ctx context.Context) error {
	watches := []func(context.Context, chan<- error){
		s.accounts.follow, s.users.follow, s.roles.follow, s.groups.follow, s.groupIDs.follow, s.managed.follow,
		s.devices.follow, s.providers.follow, s.controls.follow, s.profiles.follow, s.accessKeys.follow,
		s.certificates.follow, s.followKeys,
	}
	ready := make(chan error, len(watches))
	for _, w := range watches {
		s.done.Go(func() { w(ctx, ready) })
	}
	var errs []error
	for range watches {
		errs = append(errs, <-ready)
	}
	return errors.Join(errs...)
}

// Close ends the watches. Records can still be read and written, more slowly.
func (s *Service) Close() {
	s.cancel()
	s.done.Wait()
}

// SetCertificateUseCheck plugs in what DeleteServerCertificate asks before it deletes: whether somebody uses the
// certificate, and who, in words for the error message.
func (s *Service) SetCertificateUseCheck(
	check func(ctx context.Context, arn string) (user string, inUse bool, err error),
) {
	c := useCheck(check)
	s.useCheck.Store(&c)
}

// Handlers returns the operations that this service implements.
func (s *Service) Handlers() map[string]model.Handler { return iammodel.Handlers(s) }

func (s *Service) now() time.Time { return s.cfg.Clock().UTC().Truncate(time.Second) }

// txn runs change and then drops the keys that it names, whatever the outcome.
func (s *Service) txn(ctx context.Context, change func(*store.Tx) error, drops ...func()) error {
	defer func() {
		for _, drop := range drops {
			drop()
		}
	}()
	return s.cfg.Store.Txn(ctx, change)
}

// missing turns the store's ErrNotFound into AWS's NoSuchEntity and leaves other errors alone.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, store.ErrNotFound) {
		return iammodel.ErrNoSuchEntity(format, args...)
	}
	return err
}

// taken turns the store's ErrExists into AWS's EntityAlreadyExists.
func taken(err error, format string, args ...any) error {
	if errors.Is(err, store.ErrExists) {
		return iammodel.ErrEntityAlreadyExists(format, args...)
	}
	return err
}

// account returns the account of the caller whose request ctx belongs to.
func account(ctx context.Context) (string, error) {
	c := authn.CallerFrom(ctx)
	if c.AccountID == "" {
		return "", errNobody()
	}
	return c.AccountID, nil
}

func errNobody() error {
	return model.Errorf("AccessDenied", http.StatusForbidden,
		"User: anonymous is not authorized to perform this operation")
}

// belowLimit refuses a create when the account has as many entities of the kind as its quota allows.
func belowLimit(ctx context.Context, count func(context.Context, string) (int, error),
	accountID, kind string, limit int,
) error {
	have, err := count(ctx, accountID+"/")
	if err != nil {
		return err
	}
	if have >= limit {
		return errLimit(kind, limit)
	}
	return nil
}

func errLimit(kind string, limit int) error {
	return iammodel.ErrLimitExceeded("Cannot exceed quota for %s: %d", kind, limit)
}
