package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Tx is a transaction over several records, of one table or many. All of it happens or nothing.
type Tx struct {
	ctx      context.Context
	store    *Store
	revision int64 // of the store, that everything is read at; 0 before the first read
	reads    map[string]read
	writes   map[string]clientv3.Op
	fault    error // the first one of reading
	sure     bool  // nothing is assumed any more
}

// read is a record as the transaction found it. revision is 0 when there was none.
type read struct {
	data     []byte
	assumed  any // instead of data
	revision int64
}

// Txn runs change in a transaction and commits what it wrote, unless it returns an error, which is passed on.
// When another writer touched what it read, change runs again: it must have no effect but through the tables. ErrFull
// comes before change runs.
//
// What change reads is one state of the store, and what it writes follows that state at once.
func (s *Store) Txn(ctx context.Context, change func(*Tx) error) error {
	_, err := s.TxnRevision(ctx, change)
	return err
}

// TxnRevision is Txn, and returns the revision of the records that were written.
func (s *Store) TxnRevision(ctx context.Context, change func(*Tx) error) (int64, error) {
	if err := s.writable(); err != nil {
		return 0, fmt.Errorf("begin transaction: %w", err)
	}
	tx := &Tx{ctx: ctx, store: s, reads: map[string]read{}}
	for {
		tx.writes = map[string]clientv3.Op{}
		err := change(tx)
		switch {
		case errors.Is(tx.fault, rpctypes.ErrCompacted), tx.doubtful(err):
			*tx = Tx{ctx: ctx, store: s, reads: map[string]read{}, sure: true}
			continue
		case tx.fault != nil:
			return 0, tx.fault
		case err != nil || len(tx.writes) == 0:
			return tx.revision, err
		}
		resp, err := tx.commit()
		if err != nil {
			return 0, fmt.Errorf("commit transaction: %w", named(err))
		}
		if resp.Succeeded {
			if s.hear != nil {
				s.hear(ctx, resp.Header.Revision, tx.changes())
			}
			return resp.Header.Revision, nil
		}
		tx.takeOver(resp)
	}
}

// MaxOps returns how many records one transaction may read, and how many it may write.
func (s *Store) MaxOps() int {
	if s.server == nil {
		return clusterOps
	}
	return embeddedOps
}

// doubtful says that change wrote nothing and relied on a record that was assumed. No commit finds out whether it was
// so: change has to see the real one.
func (tx *Tx) doubtful(err error) bool {
	if err == nil && len(tx.writes) > 0 {
		return false
	}
	for _, r := range tx.reads {
		if r.assumed != nil {
			return true
		}
	}
	return false
}

// commit writes if nothing that was read has changed, and reads it anew if something has.
func (tx *Tx) commit() (*clientv3.TxnResponse, error) {
	var same []clientv3.Cmp
	var again, then []clientv3.Op
	for _, key := range slices.Sorted(maps.Keys(tx.reads)) {
		same = append(same, clientv3.Compare(clientv3.ModRevision(key), "=", tx.reads[key].revision))
		again = append(again, clientv3.OpGet(key))
	}
	for _, key := range slices.Sorted(maps.Keys(tx.writes)) {
		then = append(then, tx.writes[key])
	}
	return tx.store.client.Txn(tx.ctx).If(same...).Then(then...).Else(again...).Commit()
}

// changes names what a transaction wrote, in order.
func (tx *Tx) changes() []Write {
	changes := make([]Write, 0, len(tx.writes))
	for _, key := range slices.Sorted(maps.Keys(tx.writes)) {
		op := tx.writes[key]
		changes = append(changes, Write{Record: key, Deleted: op.IsDelete()})
	}
	return changes
}

// takeOver makes what a failed commit found the state that the next attempt reads.
func (tx *Tx) takeOver(resp *clientv3.TxnResponse) {
	tx.revision = resp.Header.Revision
	keys := slices.Sorted(maps.Keys(tx.reads))
	for i, r := range resp.Responses {
		tx.reads[keys[i]] = found(r.GetResponseRange().Kvs)
	}
}

func found(kvs []*mvccpb.KeyValue) read {
	if len(kvs) == 0 {
		return read{}
	}
	return read{data: kvs[0].Value, revision: kvs[0].ModRevision}
}

// get reads a record once; an own write is not read back.
func (tx *Tx) get(key string) (read, error) {
	if r, ok := tx.reads[key]; ok {
		return r, nil
	}
	opts := tx.store.readOptions()
	if tx.revision != 0 {
		opts = append(opts, clientv3.WithRev(tx.revision))
	}
	resp, err := tx.store.client.Get(tx.ctx, key, opts...)
	if err != nil {
		if tx.fault == nil {
			tx.fault = fmt.Errorf("read %s: %w", key, named(err))
		}
		return read{}, tx.fault
	}
	if tx.revision == 0 {
		tx.revision = resp.Header.Revision
	}
	r := found(resp.Kvs)
	tx.reads[key] = r
	return r, nil
}

// TxTable is a table as seen by one transaction.
type TxTable[T any] struct {
	table *Table[T]
	tx    *Tx
}

// In returns the table as part of tx.
func (t *Table[T]) In(tx *Tx) TxTable[T] { return TxTable[T]{table: t, tx: tx} }

// Assume spares reading a record that the caller knows: its value and the revision that wrote it. If it is no longer
// so, the change function runs again and reads the record. The change function must not alter what value points to.
func (t TxTable[T]) Assume(key string, value T, revision int64) {
	path := t.table.prefix + key
	if _, ok := t.tx.reads[path]; !ok && t.tx.revision == 0 && revision > 0 && !t.tx.sure {
		t.tx.reads[path] = read{assumed: &value, revision: revision}
	}
}

// Get returns the record under key, or ErrNotFound.
func (t TxTable[T]) Get(key string) (value T, err error) {
	path := t.table.prefix + key
	if op, ok := t.tx.writes[path]; ok {
		if op.IsDelete() {
			return value, t.table.wrap("read", key, ErrNotFound)
		}
		return t.table.decode(op.ValueBytes())
	}
	r, err := t.tx.get(path)
	switch {
	case err != nil:
		return value, t.table.wrap("read", key, err)
	case r.revision == 0:
		return value, t.table.wrap("read", key, ErrNotFound)
	case r.assumed != nil:
		return *r.assumed.(*T), nil
	}
	return t.table.decode(r.data)
}

// Create writes a new record, or returns ErrExists.
func (t TxTable[T]) Create(key string, value T) error {
	there, err := t.exists(key)
	if err != nil {
		return err
	}
	if there {
		return t.table.wrap("create", key, ErrExists)
	}
	return t.Put(key, value)
}

// Put writes a record whether it exists or not.
func (t TxTable[T]) Put(key string, value T) error {
	data, err := t.table.encode(value)
	if err != nil {
		return err
	}
	path := t.table.prefix + key
	t.tx.writes[path] = clientv3.OpPut(path, data)
	return nil
}

// Delete removes a record, or returns ErrNotFound.
func (t TxTable[T]) Delete(key string) error {
	there, err := t.exists(key)
	if err != nil {
		return err
	}
	if !there {
		return t.table.wrap("delete", key, ErrNotFound)
	}
	path := t.table.prefix + key
	t.tx.writes[path] = clientv3.OpDelete(path)
	return nil
}

// exists says whether there is a record, as this transaction has it.
func (t TxTable[T]) exists(key string) (bool, error) {
	path := t.table.prefix + key
	if op, ok := t.tx.writes[path]; ok {
		return !op.IsDelete(), nil
	}
	r, err := t.tx.get(path)
	if err != nil {
		return false, t.table.wrap("read", key, err)
	}
	return r.revision != 0, nil
}
