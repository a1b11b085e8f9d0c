package placement

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Authenticate says whether nodeID may use cert, which was verified against the cloud CA: it is its NODECERT, or the
// next one, which becomes its NODECERT by that while the one before ends. A *nodelink.RefusedError says why not; any
// other error is the store's.
func (s *Service) Authenticate(ctx context.Context, nodeID string, cert *x509.Certificate) error {
	if n, ok := s.view.node(nodeID); ok && same(n.CertificateDER, cert) {
		return s.checkLife(cert)
	}
	n, err := s.nodes.Get(ctx, nodeID) // the view may be a moment behind
	switch {
	case errors.Is(err, store.ErrNotFound):
		return s.refuseUnknown(ctx, nodeID, cert, nodelink.ReasonUnknown, "the cloud knows no node "+nodeID)
	case err != nil:
		return fmt.Errorf("look up node %s: %w", nodeID, err)
	case same(n.CertificateDER, cert):
		return s.checkLife(cert)
	case same(n.NextDER, cert) && s.cfg.Clock().Before(n.NextUntil):
		if err := s.checkLife(cert); err != nil {
			return err
		}
		return s.promote(ctx, nodeID, cert)
	}
	detail := "node " + nodeID + " has another NODECERT now"
	if present, err := x509.ParseCertificate(n.CertificateDER); err == nil {
		detail += ", " + serialOf(present)
	}
	return s.refuseUnknown(ctx, nodeID, cert, nodelink.ReasonReplaced, detail)
}

// Follow wakes its caller after changes of a node's record, its removal among them, until stop is called. It is for
// those who have authenticated a node and must do so again.
func (s *Service) Follow(nodeID string) (wake <-chan struct{}, stop func()) {
	return s.view.follow(nodeID)
}

// Node returns a node's record, and whether there is one. It may be a moment behind the store.
func (s *Service) Node(nodeID string) (Node, bool) { return s.view.node(nodeID) }

// Certificate returns the NODECERT to which credentials for a node are to be sealed now; ErrNoNode when there is no
// such node or it was removed.
func (s *Service) Certificate(ctx context.Context, nodeID string) (*x509.Certificate, error) {
	n, err := s.nodes.Get(ctx, nodeID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoNode, nodeID)
	}
	if err != nil {
		return nil, fmt.Errorf("look up node %s: %w", nodeID, err)
	}
	cert, err := x509.ParseCertificate(n.CertificateDER)
	if err != nil {
		return nil, fmt.Errorf("parse certificate of node %s: %w", nodeID, err)
	}
	return cert, nil
}

func same(der []byte, cert *x509.Certificate) bool {
	return subtle.ConstantTimeCompare(der, cert.Raw) == 1
}

func serialOf(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// checkLife refuses a NODECERT that ended after its TLS connection was made.
func (s *Service) checkLife(cert *x509.Certificate) error {
	if now := s.cfg.Clock(); now.After(cert.NotAfter) {
		return refusal(cert, nodelink.ReasonExpired, "its validity ended on "+cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// refuseUnknown refuses a NODECERT that is not in use: with otherwise, unless the node that had it was removed.
func (s *Service) refuseUnknown(ctx context.Context, nodeID string, cert *x509.Certificate,
	otherwise nodelink.Reason, detail string) error {
	removed, err := s.removed.Get(ctx, removedKey(cert.Raw))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refusal(cert, otherwise, detail)
	case err != nil:
		return fmt.Errorf("look up the removal of node %s: %w", nodeID, err)
	}
	return refusal(cert, nodelink.ReasonRemoved, removed.text())
}

func refusal(cert *x509.Certificate, reason nodelink.Reason, detail string) error {
	return &nodelink.RefusedError{Reason: reason, Detail: detail, Serial: serialOf(cert)}
}
