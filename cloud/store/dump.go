package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrForgotten means that the store no longer knows what its records were at a revision.
var ErrForgotten = errors.New("the store has forgotten that revision")

// Raw is a record as it lies in the store: its key begins with its table's name and a slash, its value is JSON.
type Raw struct {
	Key      string
	Value    []byte
	Revision int64 // of its last write
	Created  int64 // revision of its first write since it was not there
}

// dumpPage is how many records are read at once.
const dumpPage = 256

// Dump hands on every record of every table in the order of their keys, all as they were at one moment, until handle
// fails. It is for copies of a whole store; services read their own tables.
func (s *Store) Dump(ctx context.Context, handle func(Raw) error) error {
	return s.DumpAt(ctx, 0, handle)
}

// DumpAt is Dump of what was there after the write of a revision; 0 means now. The error is ErrForgotten when that is
// too long ago, or never was: at least 10,000 writes are kept, with an external etcd what that keeps.
func (s *Store) DumpAt(ctx context.Context, revision int64, handle func(Raw) error) error {
	for from := "\x00"; ; {
		options := append(s.readOptions(), clientv3.WithFromKey(), clientv3.WithLimit(dumpPage))
		if revision > 0 {
			options = append(options, clientv3.WithRev(revision))
		}
		resp, err := s.client.Get(ctx, from, options...)
		if errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev) {
			return fmt.Errorf("dump records: %w: %d", ErrForgotten, revision)
		}
		if err != nil {
			return fmt.Errorf("dump records: %w", named(err))
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			if err := handle(Raw{string(kv.Key), kv.Value, kv.ModRevision, kv.CreateRevision}); err != nil {
				return err
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Restore writes records as Dump gave them, over those that are there. No service may use the store meanwhile.
func (s *Store) Restore(ctx context.Context, records []Raw) error {
	for _, r := range records {
		if err := s.writable(); err != nil {
			return fmt.Errorf("restore record %s: %w", r.Key, err)
		}
		if _, err := s.client.Put(ctx, r.Key, string(r.Value)); err != nil {
			return fmt.Errorf("restore record %s: %w", r.Key, named(err))
		}
	}
	return nil
}
