package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// clockLeeway forgives a clock that is a little behind the one by which LBCERT was made.
const clockLeeway = time.Minute

// identity is who the guest is: LBCERT with LBPK and what to verify the cloud by, from one medium.
type identity struct {
	medium *keydelivery.Medium
	// notBefore and notAfter are LBCERT's.
	notBefore, notAfter time.Time
	users               int
	retired             bool
}

// identities holds the guest's present identity. A retired one is wiped as soon as nobody uses it.
type identities struct {
	mu      sync.Mutex
	current *identity
}

// use returns the present identity; done must be called after use.
func (i *identities) use() (id *identity, done func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id = i.current
	id.users++
	return id, sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		id.users--
		id.wipeIfDone()
	})
}

// replace makes another identity the present one; nil: there is none any more.
func (i *identities) replace(next *identity) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if old := i.current; old != nil {
		old.retired = true
		old.wipeIfDone()
	}
	i.current = next
}

// expiry is when the present identity ends.
func (i *identities) expiry() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.current.notAfter
}

func (id *identity) wipeIfDone() {
	if id.retired && id.users == 0 {
		id.medium.LBKey.Wipe()
	}
}

// readMedium waits for a medium and reads an LBVM's identity.
func readMedium(ctx context.Context, world World) (*identity, error) {
	return readPatiently(ctx, world, func(files fs.FS) (*identity, error) {
		medium, err := keydelivery.ReadMedium(files)
		if err != nil {
			if medium != nil {
				medium.LBKey.Wipe()
			}
			return nil, err
		}
		return newIdentity(medium)
	})
}

// newIdentity checks that the medium's LBCERT is of the medium's IAMCERT. ReadMedium has checked the rest but time.
func newIdentity(medium *keydelivery.Medium) (*identity, error) {
	lb, err := parseOne(medium.LBCertPEM)
	if err != nil {
		return nil, &fatal{phrase: "medium: malformed LBCERT", cause: err}
	}
	iam, err := parseOne(medium.IAMCertPEM)
	if err != nil {
		return nil, &fatal{phrase: "medium: malformed IAMCERT", cause: err}
	}
	if err := iam.CheckSignature(lb.SignatureAlgorithm, lb.RawTBSCertificate, lb.Signature); err != nil {
		return nil, &fatal{phrase: "medium: LBCERT is not signed by IAMCERT", cause: err}
	}
	return &identity{medium: medium, notBefore: lb.NotBefore, notAfter: lb.NotAfter}, nil
}

func parseOne(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// valid judges the identity's time.
func (id *identity) valid(now time.Time) error {
	switch {
	case !now.Before(id.notAfter):
		return &fatal{phrase: "identity expired"}
	case now.Add(clockLeeway).Before(id.notBefore):
		return &fatal{phrase: "identity is not valid yet"}
	default:
		return nil
	}
}
