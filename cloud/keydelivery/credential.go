package keydelivery

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
)

// Credential is the run message's credential field: what the cloud sends to a node for one instance. LBPK and
// LBCERT are sealed to NODECERT; LBCERT is as confidential as the key, since it is what authorises its holder.
type Credential struct {
	SealedKey  string
	SealedCert string
	IAMCertPEM []byte
	Profile    Profile
}

const (
	purposeKey  = "lbpk"
	purposeCert = "lbcert"
)

// SealCredential seals an LBVM's identity to a node for one instance.
func SealCredential(
	node *x509.Certificate,
	nodeID, instanceID string,
	id Identity,
	iamCertPEM []byte,
) (*Credential, error) {
	to, ok := node.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("seal credential to node %s: its NODECERT has no P-256 key", nodeID)
	}
	profile, err := id.Profile()
	if err != nil {
		return nil, fmt.Errorf("seal credential of %s: %w", instanceID, err)
	}
	sealedKey, err := seal(to, binding{purpose: purposeKey, node: nodeID, instance: instanceID}, id.Key)
	if err != nil {
		return nil, err
	}
	sealedCert, err := seal(to, binding{purpose: purposeCert, node: nodeID, instance: instanceID}, id.CertPEM)
	if err != nil {
		return nil, err
	}
	return &Credential{SealedKey: sealedKey, SealedCert: sealedCert, IAMCertPEM: iamCertPEM, Profile: profile}, nil
}

// Open opens the credential with NODEPK. It refuses one that was sealed for another node, another instance or
// another purpose, and one whose key and certificate do not belong together.
func (c *Credential) Open(nodeKey *ecdsa.PrivateKey, nodeID, instanceID string) (Identity, error) {
	key, err := open(nodeKey, binding{purpose: purposeKey, node: nodeID, instance: instanceID}, c.SealedKey)
	if err != nil {
		return Identity{}, fmt.Errorf("credential of %s: key: %w", instanceID, err)
	}
	cert, err := open(nodeKey, binding{purpose: purposeCert, node: nodeID, instance: instanceID}, c.SealedCert)
	if err != nil {
		key.Wipe()
		return Identity{}, fmt.Errorf("credential of %s: certificate: %w", instanceID, err)
	}
	id := Identity{CertPEM: cert, Key: key}
	lbCert, _, err := id.parse()
	// How long a node keeps the medium hangs on the profile, which comes in clear.
	if err == nil && ProfileOf(lbCert.PublicKey) != c.Profile {
		err = fmt.Errorf("LBCERT is not one of profile %d", c.Profile)
	}
	if err != nil {
		key.Wipe()
		return Identity{}, fmt.Errorf("credential of %s: %w", instanceID, err)
	}
	return id, nil
}
