package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

const (
	// mediumAttempts is how often a medium is read before it counts as damaged: floppies have passing read errors.
	mediumAttempts = 3
	mediumPause    = 200 * time.Millisecond
	// mediumAgain is how long to wait for a medium to be there once more.
	mediumAgain = 2 * time.Second
	// clockLeeway forgives a clock that is a little behind the one by which LBCERT was made.
	clockLeeway = time.Minute
)

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

// readMedium waits for a medium and reads it, some times over if it must. A medium that stays bad is an error.
func readMedium(ctx context.Context, world World) (*identity, error) {
	id, err := readMediumOnce(ctx, world)
	for attempt := 1; attempt < mediumAttempts && errors.Is(err, keydelivery.ErrMedium); attempt++ {
		world.Logger.Warn("medium not read", "attempt", attempt, "error", err)
		if !sleep(ctx, mediumPause) {
			return nil, context.Cause(ctx)
		}
		// A source that does not give the same medium again has seen no read error: what is on it is bad.
		again, cancel := context.WithTimeout(ctx, mediumAgain)
		next, nextErr := readMediumOnce(again, world)
		gone := again.Err() != nil
		cancel()
		if nextErr != nil && gone {
			return nil, err
		}
		id, err = next, nextErr
	}
	return id, err
}

func readMediumOnce(ctx context.Context, world World) (*identity, error) {
	files, err := world.Medium.Open(ctx)
	if err != nil {
		return nil, &fatal{phrase: "medium cannot be opened", cause: err}
	}
	medium, err := keydelivery.ReadMedium(files)
	if closer, ok := files.(io.Closer); ok {
		// Nothing was written, so an error of closing means nothing.
		_ = closer.Close()
	}
	if err != nil {
		if medium != nil {
			medium.LBKey.Wipe()
		}
		return nil, err
	}
	return newIdentity(medium)
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

// seed gives the medium's entropy to the machine and wipes it. It comes before anything random is used.
func (id *identity) seed(world World) error {
	defer clear(id.medium.Boot.Entropy)
	if world.Entropy == nil {
		return nil
	}
	if err := world.Entropy(id.medium.Boot.Entropy); err != nil {
		return &fatal{phrase: "entropy not taken", cause: err}
	}
	return nil
}
