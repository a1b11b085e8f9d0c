package placement

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// ErrTokenRefused is the one answer to every token that cannot be used: unknown, used, expired or altered.
var ErrTokenRefused = errors.New("enrolment token refused")

// tokenRecord keeps a token's hash; the token itself is known to its holder only.
type tokenRecord struct {
	Hash    []byte // SHA-256 of the secret, which is random enough to need no salt
	Expires time.Time
}

// NewToken makes a token that lets one node enrol within Config.TokenLife. Tokens that expired unused are
// forgotten on the way.
func (s *Service) NewToken(ctx context.Context) (string, error) {
	var id [8]byte
	t := nodelink.Token{CAHash: sha256.Sum256(s.cfg.CA.cert.Raw)}
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("make enrolment token: %w", err)
	}
	if _, err := rand.Read(t.Secret[:]); err != nil {
		return "", fmt.Errorf("make enrolment token: %w", err)
	}
	t.ID = hex.EncodeToString(id[:])
	s.forgetExpired(ctx)
	hash := sha256.Sum256(t.Secret[:])
	record := tokenRecord{Hash: hash[:], Expires: s.cfg.Clock().Add(s.cfg.TokenLife)}
	if err := s.tokens.Create(ctx, t.ID, record); err != nil {
		return "", fmt.Errorf("keep enrolment token: %w", err)
	}
	return t.Text(), nil
}

// forgetExpired is a courtesy to the store; its faults do not matter, since expiry is checked at use as well.
func (s *Service) forgetExpired(ctx context.Context) {
	ids, err := s.tokens.Keys(ctx, "")
	if err != nil {
		return
	}
	now := s.cfg.Clock()
	for _, id := range ids {
		if r, err := s.tokens.Get(ctx, id); err == nil && !now.Before(r.Expires) {
			_ = s.tokens.Delete(ctx, id)
		}
	}
}

// Enrol uses the token up and makes the node's record. It returns its NODECERT. Errors: ErrTokenRefused,
// ErrRequest, and ErrNodeExists or ErrNodeEnding, in which cases the token can be used again. A node that lost its
// folder must be removed before it can enrol under its old name; otherwise whoever holds a token could take
// another node's place and be sent its credentials.
func (s *Service) Enrol(ctx context.Context, token, nodeID string, csrDER []byte) (*x509.Certificate, error) {
	t, err := nodelink.ParseToken(token)
	if err != nil {
		return nil, s.refuse(ctx, nodeID, ErrTokenRefused)
	}
	cert, err := s.cfg.CA.SignNode(csrDER, nodeID)
	if err != nil {
		return nil, s.refuse(ctx, nodeID, err)
	}
	now := s.cfg.Clock()
	node := Node{ID: nodeID, CertificateDER: cert.Raw, EnrolledAt: now, Version: 1}
	err = s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
		if err := s.redeem(tx, t, now); err != nil {
			return err
		}
		err := s.nodes.In(tx).Create(nodeID, node)
		if errors.Is(err, store.ErrExists) {
			return fmt.Errorf("%w: %s", ErrNodeExists, nodeID)
		}
		if err != nil {
			return err
		}
		// What they give back later must not be taken from the new node's load.
		load, err := s.loads.In(tx).Get(nodeID)
		if err == nil && load.Instances > 0 {
			return fmt.Errorf("%w: %s, %d of them", ErrNodeEnding, nodeID, load.Instances)
		}
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, s.refuse(ctx, nodeID, err)
	}
	s.view.enrolled(&node)
	s.record(ctx, "node.enrolled", nodeID, map[string]string{"serial": cert.SerialNumber.Text(16)})
	return cert, nil
}

func (s *Service) redeem(tx *store.Tx, t nodelink.Token, now time.Time) error {
	record, err := s.tokens.In(tx).Get(t.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	// An unknown id costs the same compare as a known one.
	hash := sha256.Sum256(t.Secret[:])
	same := subtle.ConstantTimeCompare(record.Hash, hash[:]) == 1
	if err != nil || !same || !now.Before(record.Expires) {
		return ErrTokenRefused
	}
	return s.tokens.In(tx).Delete(t.ID)
}

func (s *Service) refuse(ctx context.Context, nodeID string, err error) error {
	s.record(ctx, "node.enrolment_refused", nodeID, map[string]string{"reason": err.Error()})
	return fmt.Errorf("enrol node %q: %w", nodeID, err)
}
