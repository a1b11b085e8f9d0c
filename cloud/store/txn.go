package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/client/v3/concurrency"
)

// Tx is a transaction over several records, of one table or many. All of it happens or nothing.
type Tx struct{ stm concurrency.STM }

// Txn runs change in a transaction and commits what it wrote, unless it returns an error, which is passed on.
// When another writer touched what it read, change runs again: it must have no effect but through the tables. ErrFull
// comes before change runs.
func (s *Store) Txn(ctx context.Context, change func(*Tx) error) error {
	if err := s.writable(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	var own error
	_, err := concurrency.NewSTM(s.client, func(stm concurrency.STM) error {
		own = change(&Tx{stm: stm})
		return own
	}, concurrency.WithAbortContext(ctx), concurrency.WithIsolation(concurrency.SerializableSnapshot))
	if own != nil && errors.Is(err, own) {
		return own
	}
	if err != nil {
		return fmt.Errorf("commit transaction: %w", full(err))
	}
	return nil
}

// TxTable is a table as seen by one transaction.
type TxTable[T any] struct {
	table *Table[T]
	tx    *Tx
}

// In returns the table as part of tx.
func (t *Table[T]) In(tx *Tx) TxTable[T] { return TxTable[T]{table: t, tx: tx} }

// Get returns the record under key, or ErrNotFound.
func (t TxTable[T]) Get(key string) (value T, err error) {
	data := t.tx.stm.Get(t.table.prefix + key)
	if data == "" {
		return value, t.table.wrap("read", key, ErrNotFound)
	}
	return t.table.decode([]byte(data))
}

// Create writes a new record, or returns ErrExists.
func (t TxTable[T]) Create(key string, value T) error {
	if t.tx.stm.Get(t.table.prefix+key) != "" {
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
	t.tx.stm.Put(t.table.prefix+key, data)
	return nil
}

// Delete removes a record, or returns ErrNotFound.
func (t TxTable[T]) Delete(key string) error {
	if t.tx.stm.Get(t.table.prefix+key) == "" {
		return t.table.wrap("delete", key, ErrNotFound)
	}
	t.tx.stm.Del(t.table.prefix + key)
	return nil
}
