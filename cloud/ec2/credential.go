package ec2

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// profile is the profile of the key-delivery protocol that the image's guests speak.
func (i ImageInfo) profile() keydelivery.Profile {
	if i.DeliveryProfile == 0 {
		return keydelivery.Profile2
	}
	return i.DeliveryProfile
}

// recipient is the node that a credential is sealed to.
type recipient struct {
	nodeID string
	cert   *x509.Certificate // NODECERT
}

// newCredential makes LBPK and LBCERT for one instance and seals both to its node. LBPK is the instance's, and in
// clear, only for the length of this call. What is returned beside it is what the record keeps of LBCERT.
func (s *Service) newCredential(ctx context.Context, profile keydelivery.Profile, to recipient, instanceID string,
	life time.Duration) (*keydelivery.Credential, *LBCert, error) {
	key, err := s.lbKeys.take(profile)
	if err != nil {
		return nil, nil, err
	}
	defer key.text.Wipe()
	certPEM, iamCertPEM, err := s.cfg.IAM.SignLBCert(ctx, instanceID, key.public, life)
	if err != nil {
		return nil, nil, err
	}
	identity := keydelivery.Identity{CertPEM: certPEM, Key: key.text}
	cert, err := identity.Certificate()
	if err != nil {
		return nil, nil, err
	}
	sealed, err := keydelivery.SealCredential(to.cert, to.nodeID, instanceID, identity, iamCertPEM)
	if err != nil {
		return nil, nil, err
	}
	return sealed, newLBCert(cert, issuerOf(iamCertPEM), sealed, s.cfg.Clock()), nil
}

// lifeFor is how long an LBCERT of an instance is valid that is made now.
func (s *Service) lifeFor(inst *Instance, life time.Duration) time.Duration {
	if s.cfg.Shorten != nil {
		life = cmp.Or(s.cfg.Shorten(inst), life)
	}
	return life
}

// auditCredential says what kind of identity an instance was launched with and how long its medium stays.
func auditCredential(inst *Instance) map[string]string {
	medium := "wiped when the guest has read it"
	if inst.Credential.Profile == keydelivery.Profile1 {
		medium = "kept for the instance's life: a profile 1 guest reads it anew for every download"
	}
	return map[string]string{
		"serial": inst.Identity.Current.Serial, "notAfter": stamp(inst.Identity.Current.NotAfter),
		"node": inst.NodeID, "image": inst.ImageName, "profile": strconv.Itoa(int(inst.Credential.Profile)),
		"medium": medium, "account": inst.AccountID, "role": inst.RoleName,
	}
}

// lbKey is an LBPK.
type lbKey struct {
	public crypto.PublicKey
	text   keydelivery.Secret
}

// readyKeys is how many RSA keys are made before anybody asks.
const readyKeys = 4

// lbKeys hands out LBPKs. An RSA key costs about 0.1 s, so that some are ready where an image may need them; until
// one is handed out it is nobody's.
type lbKeys struct{ ready chan lbKey }

// keep makes keys until ctx ends, and wipes those that nobody took.
func (k *lbKeys) keep(ctx context.Context) {
	for ctx.Err() == nil {
		key, err := newRSAKey()
		if err != nil {
			return // take makes its own, and tells
		}
		select {
		case k.ready <- key:
		case <-ctx.Done():
			key.text.Wipe()
		}
	}
	for {
		select {
		case key := <-k.ready:
			key.text.Wipe()
		default:
			return
		}
	}
}

// take returns a key of the profile, which the caller wipes. It waits for nobody: when none is ready, it makes one.
func (k *lbKeys) take(profile keydelivery.Profile) (lbKey, error) {
	if profile == keydelivery.Profile1 {
		select {
		case key := <-k.ready:
			return key, nil
		default:
			return newRSAKey()
		}
	}
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		return lbKey{}, err
	}
	return lbKey{public: key.Public(), text: text}, nil
}

func newRSAKey() (lbKey, error) {
	key, text, err := keydelivery.NewRSALBKey()
	if err != nil {
		return lbKey{}, err
	}
	return lbKey{public: key.Public(), text: text}, nil
}
