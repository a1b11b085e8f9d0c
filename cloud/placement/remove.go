package placement

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// removedRecord remembers a NODECERT of a removed node until it would have ended anyway, so that whoever shows it is
// told what happened, also after another node has enrolled under that name.
type removedRecord struct {
	NodeID   string
	Reason   string // the operator's words
	At       time.Time
	NotAfter time.Time // of the NODECERT
}

func (r *removedRecord) text() string {
	return "node " + r.NodeID + " was removed on " + r.At.UTC().Format(time.RFC3339) + ": " + r.Reason
}

func removedKey(certificateDER []byte) string {
	sum := sha256.Sum256(certificateDER)
	return hex.EncodeToString(sum[:16])
}

// Remove takes a node out of the cloud: its NODECERTs open nothing from then on, nothing is placed on it, and its id
// may enrol anew. What its instances hold is given back as each of them ends, which is the caller's to do. by and why
// are for the journal, whose record is on the disk when Remove returns; the node is told why. ErrNoNode when there is
// no such node.
func (s *Service) Remove(ctx context.Context, nodeID, by, why string) error {
	var gone Node
	err := s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
		n, err := s.nodes.In(tx).Get(nodeID)
		if err != nil {
			return err
		}
		gone = n
		if err := s.rememberRemoval(tx, &n, why); err != nil {
			return err
		}
		load, err := s.loads.In(tx).Get(nodeID)
		if err == nil && load.Instances == 0 {
			err = s.loads.In(tx).Delete(nodeID)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return s.nodes.In(tx).Delete(nodeID)
	})
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNoNode, nodeID)
	}
	if err != nil {
		return fmt.Errorf("remove node %s: %w", nodeID, err)
	}
	s.view.removed(&gone)
	s.presence.forget(nodeID)
	s.forgetRemovals(ctx)
	err = s.cfg.Journal.RecordSynced(ctx, journal.Event{
		Time: s.cfg.Clock(), Kind: "node.removed", Subject: nodeID, Attributes: map[string]string{"by": by, "reason": why},
	})
	if err != nil {
		return fmt.Errorf("node %s is removed, but the audit's record of it may be lost: %w", nodeID, err)
	}
	return nil
}

func (s *Service) rememberRemoval(tx *store.Tx, n *Node, why string) error {
	for _, der := range [][]byte{n.CertificateDER, n.NextDER} {
		if der == nil {
			continue
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse certificate of node %s: %w", n.ID, err)
		}
		err = s.removed.In(tx).Put(removedKey(der), removedRecord{
			NodeID: n.ID, Reason: why, At: s.cfg.Clock(), NotAfter: cert.NotAfter,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetRemovals drops what is remembered of NODECERTs that have ended. Its faults do not matter.
func (s *Service) forgetRemovals(ctx context.Context) {
	keys, err := s.removed.Keys(ctx, "")
	if err != nil {
		return
	}
	for _, key := range keys {
		if r, err := s.removed.Get(ctx, key); err == nil && s.cfg.Clock().After(r.NotAfter) {
			_ = s.removed.Delete(ctx, key)
		}
	}
}

// Enrolled says whether there is a node of this id in the store.
func (s *Service) Enrolled(ctx context.Context, nodeID string) (bool, error) {
	_, err := s.nodes.Get(ctx, nodeID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up node %s: %w", nodeID, err)
	}
	return true, nil
}
