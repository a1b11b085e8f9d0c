package placement

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// offerLife is how long a node may wait before it connects with its next NODECERT. After that the offer ends and the
// present one goes on, so that a node which was away in between can connect whatever it had received.
const offerLife = 24 * time.Hour

// Renew gives a node that authenticated with present its next NODECERT, for the key of csrDER. Until the node
// connects with it, and at most for a day, both are good and credentials are sealed to the present one: to a key that
// the node has shown to have. A request for the key of the present or the next NODECERT is answered with that one, so
// that a node may ask again after an answer that it did not get. Errors: ErrRequest, and *nodelink.RefusedError when
// present is not the node's any more.
func (s *Service) Renew(ctx context.Context, nodeID string, present *x509.Certificate,
	csrDER []byte) (*x509.Certificate, error) {
	pub, err := checkNodeRequest(csrDER, nodeID)
	if err != nil {
		s.record(ctx, "node.renewal_refused", nodeID, map[string]string{"reason": err.Error()})
		return nil, fmt.Errorf("renew certificate of node %q: %w", nodeID, err)
	}
	fresh, err := s.cfg.CA.SignNode(csrDER, nodeID)
	if err != nil {
		return nil, fmt.Errorf("renew certificate of node %q: %w", nodeID, err)
	}
	var written *Node
	var answer *x509.Certificate
	err = s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
		written = nil
		n, err := s.nodes.In(tx).Get(nodeID)
		if err != nil {
			return err
		}
		if !same(n.CertificateDER, present) {
			return refusal(present, nodelink.ReasonReplaced, "node "+nodeID+" has another NODECERT now")
		}
		if answer = n.certificateFor(pub, s.cfg.Clock()); answer != nil {
			return nil
		}
		n.NextDER, n.NextUntil = fresh.Raw, s.cfg.Clock().Add(offerLife)
		n.Version++
		written, answer = &n, fresh
		return s.nodes.In(tx).Put(nodeID, n)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoNode, nodeID)
	}
	if err != nil {
		return nil, fmt.Errorf("renew certificate of node %q: %w", nodeID, err)
	}
	if written != nil {
		s.view.applyNode(store.Change[Node]{Key: nodeID, Value: written})
		s.record(ctx, "node.certificate_offered", nodeID, map[string]string{
			"serial": serialOf(fresh), "present": serialOf(present), "ends": fresh.NotAfter.UTC().Format(time.RFC3339),
		})
	}
	return answer, nil
}

// certificateFor returns the node's certificate for a key, if it has one that is good.
func (n *Node) certificateFor(pub *ecdsa.PublicKey, now time.Time) *x509.Certificate {
	ders := [][]byte{n.CertificateDER}
	if now.Before(n.NextUntil) {
		ders = append(ders, n.NextDER)
	}
	for _, der := range ders {
		if cert, err := x509.ParseCertificate(der); err == nil && pub.Equal(cert.PublicKey) {
			return cert
		}
	}
	return nil
}

// promote makes the next NODECERT, with which the node has just connected, its NODECERT.
func (s *Service) promote(ctx context.Context, nodeID string, cert *x509.Certificate) error {
	var before []byte
	n, err := s.nodes.Update(ctx, nodeID, func(n *Node) error {
		before = nil
		if !same(n.NextDER, cert) {
			return nil // another call was first, or the node asked anew
		}
		before = n.CertificateDER
		n.CertificateDER, n.NextDER, n.NextUntil, n.RenewalAsked = n.NextDER, nil, time.Time{}, time.Time{}
		n.Version++
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return s.refuseUnknown(ctx, nodeID, cert, nodelink.ReasonUnknown, "the cloud knows no node "+nodeID)
	}
	if err != nil {
		return fmt.Errorf("keep the new certificate of node %s: %w", nodeID, err)
	}
	if !same(n.CertificateDER, cert) {
		return refusal(cert, nodelink.ReasonReplaced, "node "+nodeID+" has another NODECERT now")
	}
	s.view.applyNode(store.Change[Node]{Key: nodeID, Value: &n})
	if old, err := x509.ParseCertificate(before); before != nil && err == nil {
		s.record(ctx, "node.certificate_renewed", nodeID, map[string]string{
			"serial": serialOf(cert), "replaced": serialOf(old), "ends": cert.NotAfter.UTC().Format(time.RFC3339),
		})
	}
	return nil
}

// AskRenewal has a node renew its NODECERT as soon as it is connected; ErrNoNode when there is no such node.
func (s *Service) AskRenewal(ctx context.Context, nodeID string) error {
	n, err := s.nodes.Update(ctx, nodeID, func(n *Node) error {
		n.RenewalAsked = s.cfg.Clock()
		n.Version++
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNoNode, nodeID)
	}
	if err != nil {
		return fmt.Errorf("ask node %s to renew: %w", nodeID, err)
	}
	s.view.applyNode(store.Change[Node]{Key: nodeID, Value: &n})
	s.record(ctx, "node.renewal_asked", nodeID, nil)
	return nil
}
