package iam

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Config says what a Service works on.
type Config struct {
	// Store holds the records. Required.
	Store *store.Store
	// Journal takes denials and deliveries; nil drops them.
	Journal *journal.Journal
	// RootKeyFile is the path of the key that seals every secret in Store: 32 random bytes, mode 0600, made at the
	// first start. Required unless RootKeyURI is given. Without it what is sealed cannot be opened again.
	RootKeyFile string
	// RootKeyURI names a key on a PKCS#11 token that takes the file's place (RFC 7512), see ParseTokenURI: it wraps the
	// key that seals the secrets and never leaves the token.
	RootKeyURI string
	// Clock is the time that decides expiry; nil means time.Now.
	Clock func() time.Time
	// Region is the value of aws:RequestedRegion; empty means us-east-1.
	Region string
	// Quotas limit each account; zero fields mean AWS's defaults.
	Quotas Quotas
	// CacheSize bounds how many records of each kind are kept in memory; zero means 65,536.
	CacheSize int
	// InstanceSessionLife is how long role credentials of an instance are valid, 15 minutes to 12 hours; zero means
	// 6 hours, as on AWS.
	InstanceSessionLife time.Duration
	// Shorten, for tests of what happens at their end, says how long role credentials of an instance are valid instead;
	// zero means as long as ever. Nil means that for all.
	Shorten func(instanceID, roleName string) time.Duration
	// Revoked says why an LBCERT is refused though its IAMCERT signed it; an empty text means that it is good. Nil means
	// that all are.
	Revoked func(ctx context.Context, cert *x509.Certificate) (why string, err error)
	// SessionRevoked says whether the role sessions of an instance may do nothing any more, whatever their role's policies
	// allow, because the instance's identity was revoked. Nil means that none was.
	SessionRevoked func(instanceID string) bool
	// MinDeliveryProfile is the least profile of the key-delivery protocol that is answered: 1 lets original guests
	// with RSA identities have keys too. Zero means 2.
	MinDeliveryProfile keydelivery.Profile
	// IAMCertOverlap is how long an IAMCERT that was replaced is accepted at least, unless somebody retires it: time for
	// requests that are under way and for replicas that hear of it late. Zero means 11 minutes, the age of the oldest
	// request that is answered and a minute.
	IAMCertOverlap time.Duration
}

// Quotas are the most entities of each kind that one account may have.
type Quotas struct {
	Users              int // 5,000
	Roles              int // 1,000; service roles do not count
	InstanceProfiles   int // 1,000; those of service roles do not count
	ServerCertificates int // 20
	AccessKeysPerUser  int // 2
	Groups             int // 300
	Policies           int // 1,500 managed policies
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("iam: Store is required"))
	}
	errs = append(errs, c.checkRootKey())
	if c.CacheSize < 0 {
		errs = append(errs, errors.New("iam: CacheSize must not be negative"))
	}
	if d := c.InstanceSessionLife; d != 0 && (d < minSession || d > maxSession) {
		errs = append(errs, errors.New("iam: InstanceSessionLife must be between 15m and 12h"))
	}
	if c.IAMCertOverlap < 0 {
		errs = append(errs, errors.New("iam: IAMCertOverlap must not be negative"))
	}
	if p := c.MinDeliveryProfile; p < 0 || p > keydelivery.Profile2 {
		errs = append(errs, errors.New("iam: MinDeliveryProfile must be 1 or 2"))
	}
	q := c.Quotas
	if min(q.Users, q.Roles, q.InstanceProfiles, q.ServerCertificates, q.AccessKeysPerUser,
		q.Groups, q.Policies) < 0 {
		errs = append(errs, errors.New("iam: Quotas must not be negative"))
	}
	return errors.Join(errs...)
}

func (c Config) checkRootKey() error {
	if c.RootKeyURI == "" {
		if c.RootKeyFile == "" {
			return errors.New("iam: RootKeyFile or RootKeyURI is required")
		}
		return nil
	}
	if _, err := ParseTokenURI(c.RootKeyURI); err != nil {
		return fmt.Errorf("iam: RootKeyURI: %w", err)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.CacheSize == 0 {
		c.CacheSize = 65_536
	}
	if c.InstanceSessionLife == 0 {
		c.InstanceSessionLife = 6 * time.Hour
	}
	if c.MinDeliveryProfile == 0 {
		c.MinDeliveryProfile = keydelivery.Profile2
	}
	if c.IAMCertOverlap == 0 {
		c.IAMCertOverlap = keydelivery.MaxAge + keydelivery.MaxAhead
	}
	or := func(n *int, other int) {
		if *n == 0 {
			*n = other
		}
	}
	or(&c.Quotas.Users, 5000)
	or(&c.Quotas.Roles, 1000)
	or(&c.Quotas.InstanceProfiles, 1000)
	or(&c.Quotas.ServerCertificates, 20)
	or(&c.Quotas.AccessKeysPerUser, 2)
	or(&c.Quotas.Groups, 300)
	or(&c.Quotas.Policies, 1500)
	return c
}
