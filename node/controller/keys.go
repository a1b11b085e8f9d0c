package controller

import (
	"crypto/ecdsa"
	"errors"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// openCredential opens an instance's credential with the newest of the node's keys that it is sealed to, and returns
// that key. The caller wipes the identity.
func (c *Controller) openCredential(inst *nodelink.Instance) (keydelivery.Identity, *ecdsa.PrivateKey, error) {
	sealed := inst.GetCredential()
	credential := keydelivery.Credential{
		SealedKey: sealed.GetSealedKey(), SealedCert: sealed.GetSealedCert(), IAMCertPEM: sealed.GetIamCertPem(),
		Profile: keydelivery.Profile(sealed.GetProfile()),
	}
	failure := errors.New("open credential: the node has no key")
	for i, key := range c.cfg.Keys() {
		identity, err := credential.Open(key, c.cfg.NodeID, inst.GetId())
		if err == nil {
			return identity, key, nil
		}
		if i == 0 {
			failure = err // of the key that it should be sealed to
		}
	}
	return keydelivery.Identity{}, nil, failure
}

// Needs says whether some instance here has a credential that may still be opened and that no newer key of the node
// opens.
func (c *Controller) Needs(key *ecdsa.PrivateKey) bool {
	c.mu.Lock()
	guests := make([]*guest, 0, len(c.guests))
	for _, g := range c.guests {
		guests = append(guests, g)
	}
	c.mu.Unlock()
	for _, g := range guests {
		inst := g.wish()
		if inst.GetCredential() == nil || g.hasSpent(inst.GetCredential().Fingerprint()) {
			continue
		}
		identity, opener, err := c.openCredential(inst)
		if err != nil {
			continue
		}
		identity.Key.Wipe()
		if opener.Equal(key) {
			return true
		}
	}
	return false
}

// spend notes that a credential will not be opened again: its medium is gone for good.
func (g *guest) spend(sum string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spent = sum
}

func (g *guest) hasSpent(sum string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.spent == sum
}
