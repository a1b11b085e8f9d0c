package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Table holds the records of one kind, as JSON, under keys of the caller's choice.
type Table[T any] struct {
	store  *Store
	prefix string
}

// NewTable returns the table called name. Names must not contain a slash; every name belongs to one package.
func NewTable[T any](s *Store, name string) *Table[T] {
	return &Table[T]{store: s, prefix: name + "/"}
}

// Get returns the record under key, or ErrNotFound.
func (t *Table[T]) Get(ctx context.Context, key string) (T, error) {
	value, _, err := t.get(ctx, key)
	return value, err
}

func (t *Table[T]) get(ctx context.Context, key string) (value T, modRevision int64, err error) {
	resp, err := t.store.client.Get(ctx, t.prefix+key, t.store.readOptions()...)
	if err != nil {
		return value, 0, t.wrap("read", key, err)
	}
	t.store.read.Add(uint64(len(resp.Kvs)))
	return t.read(key, resp.Kvs)
}

// read takes the record out of an answer.
func (t *Table[T]) read(key string, kvs []*mvccpb.KeyValue) (value T, modRevision int64, err error) {
	if len(kvs) == 0 {
		return value, 0, t.wrap("read", key, ErrNotFound)
	}
	value, err = t.decode(kvs[0].Value)
	return value, kvs[0].ModRevision, err
}

// Create writes a new record, or returns ErrExists and changes nothing.
func (t *Table[T]) Create(ctx context.Context, key string, value T) error {
	data, err := t.encode(value)
	if err != nil {
		return err
	}
	if err := t.store.writable(); err != nil {
		return t.wrap("create", key, err)
	}
	path := t.prefix + key
	resp, err := t.store.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(path), "=", 0)).
		Then(clientv3.OpPut(path, data)).Commit()
	if err != nil {
		return t.wrap("create", key, err)
	}
	if !resp.Succeeded {
		return t.wrap("create", key, ErrExists)
	}
	t.store.written(ctx, resp.Header.Revision, path, false)
	return nil
}

// Put writes a record whether it exists or not.
func (t *Table[T]) Put(ctx context.Context, key string, value T) error {
	data, err := t.encode(value)
	if err != nil {
		return err
	}
	if err := t.store.writable(); err != nil {
		return t.wrap("write", key, err)
	}
	resp, err := t.store.client.Put(ctx, t.prefix+key, data)
	if err != nil {
		return t.wrap("write", key, err)
	}
	t.store.written(ctx, resp.Header.Revision, t.prefix+key, false)
	return nil
}

// Delete removes a record, or returns ErrNotFound.
func (t *Table[T]) Delete(ctx context.Context, key string) error {
	if err := t.store.writable(); err != nil {
		return t.wrap("delete", key, err)
	}
	resp, err := t.store.client.Delete(ctx, t.prefix+key)
	if err != nil {
		return t.wrap("delete", key, err)
	}
	if resp.Deleted == 0 {
		return t.wrap("delete", key, ErrNotFound)
	}
	t.store.written(ctx, resp.Header.Revision, t.prefix+key, true)
	return nil
}

// Update reads the record, lets change alter it and writes it back; when somebody else wrote in between, it
// begins again, so change may run several times and must have no other effect. An error from change is returned
// as it is and nothing is written. The record as written is returned.
func (t *Table[T]) Update(ctx context.Context, key string, change func(*T) error) (T, error) {
	value, revision, err := t.get(ctx, key)
	for err == nil {
		if err := change(&value); err != nil {
			return value, err
		}
		resp, err := t.replace(ctx, key, value, revision)
		if err != nil || resp.Succeeded {
			return value, err
		}
		if value, revision, err = t.read(key, resp.Responses[0].GetResponseRange().Kvs); err != nil {
			return value, err
		}
	}
	return value, err
}

// replace writes a record that was last written by revision; if it was by another one, it returns the record.
func (t *Table[T]) replace(ctx context.Context, key string, value T, revision int64) (*clientv3.TxnResponse, error) {
	data, err := t.encode(value)
	if err != nil {
		return nil, err
	}
	if err := t.store.writable(); err != nil {
		return nil, t.wrap("update", key, err)
	}
	path := t.prefix + key
	resp, err := t.store.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(path), "=", revision)).
		Then(clientv3.OpPut(path, data)).Else(clientv3.OpGet(path)).Commit()
	if err != nil {
		return nil, t.wrap("update", key, err)
	}
	if resp.Succeeded {
		t.store.written(ctx, resp.Header.Revision, path, false)
	}
	return resp, nil
}

// List returns the records whose keys begin with keyPrefix, in key order.
func (t *Table[T]) List(ctx context.Context, keyPrefix string) ([]T, error) {
	values, _, err := t.list(ctx, keyPrefix)
	return values, err
}

func (t *Table[T]) list(ctx context.Context, keyPrefix string) ([]T, int64, error) {
	resp, err := t.store.client.Get(ctx, t.prefix+keyPrefix, append(t.store.readOptions(), clientv3.WithPrefix())...)
	if err != nil {
		return nil, 0, t.wrap("list", keyPrefix, err)
	}
	t.store.read.Add(uint64(len(resp.Kvs)))
	values := make([]T, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		if values[i], err = t.decode(kv.Value); err != nil {
			return nil, 0, fmt.Errorf("record %s: %w", kv.Key, err)
		}
	}
	return values, resp.Header.Revision, nil
}

// Keys returns the keys that begin with keyPrefix, in order, without reading the records.
func (t *Table[T]) Keys(ctx context.Context, keyPrefix string) ([]string, error) {
	resp, err := t.store.client.Get(ctx, t.prefix+keyPrefix,
		append(t.store.readOptions(), clientv3.WithPrefix(), clientv3.WithKeysOnly())...)
	if err != nil {
		return nil, t.wrap("list keys of", keyPrefix, err)
	}
	t.store.read.Add(uint64(len(resp.Kvs)))
	keys := make([]string, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		keys[i] = strings.TrimPrefix(string(kv.Key), t.prefix)
	}
	return keys, nil
}

func (t *Table[T]) encode(value T) (string, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("encode %srecord: %w", t.prefix, err)
	}
	return string(data), nil
}

func (t *Table[T]) decode(data []byte) (value T, err error) {
	if err := json.Unmarshal(data, &value); err != nil {
		return value, fmt.Errorf("%w: decode %srecord: %w", ErrDamaged, t.prefix, err)
	}
	return value, nil
}

func (t *Table[T]) wrap(verb, key string, err error) error {
	return fmt.Errorf("%s %s%s: %w", verb, t.prefix, key, named(err))
}
