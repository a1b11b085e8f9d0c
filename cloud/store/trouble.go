package store

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrLeaderLost means that etcd's leader changed during a write: whether the write was kept is not known.
var ErrLeaderLost = fmt.Errorf("etcd changed its leader: %w", rpctypes.ErrLeaderChanged)

// Trouble is asked before etcd is, for tests of what happens when it is slow or fails. It may wait, until ctx ends.
// With an error etcd is not asked, and the error is its answer; committed has the write done first.
type Trouble func(ctx context.Context, write bool) (committed bool, err error)

// troubled asks t before each question to etcd.
func troubled(client *clientv3.Client, t Trouble) {
	if t != nil {
		client.KV = &troubledKV{KV: client.KV, trouble: t}
	}
}

type troubledKV struct {
	clientv3.KV
	trouble Trouble
}

// ask does what is asked of etcd, unless there is trouble.
func ask[T any](ctx context.Context, t Trouble, write bool, do func() (*T, error)) (*T, error) {
	committed, trouble := t(ctx, write)
	if trouble != nil && !committed {
		return nil, trouble
	}
	answer, err := do()
	if trouble != nil {
		return nil, trouble
	}
	return answer, err
}

func (k *troubledKV) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (
	*clientv3.PutResponse, error) {
	return ask(ctx, k.trouble, true, func() (*clientv3.PutResponse, error) { return k.KV.Put(ctx, key, value, opts...) })
}

func (k *troubledKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return ask(ctx, k.trouble, false, func() (*clientv3.GetResponse, error) { return k.KV.Get(ctx, key, opts...) })
}

func (k *troubledKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (
	*clientv3.DeleteResponse, error) {
	return ask(ctx, k.trouble, true, func() (*clientv3.DeleteResponse, error) { return k.KV.Delete(ctx, key, opts...) })
}

func (k *troubledKV) Txn(ctx context.Context) clientv3.Txn {
	return &troubledTxn{Txn: k.KV.Txn(ctx), trouble: k.trouble, ctx: ctx}
}

type troubledTxn struct {
	clientv3.Txn
	trouble Trouble
	ctx     context.Context //nolint:containedctx // as clientv3's own transactions have it
	write   bool
}

func (t *troubledTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.Txn = t.Txn.If(cs...)
	return t
}

func (t *troubledTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	for _, op := range ops {
		t.write = t.write || op.IsPut() || op.IsDelete()
	}
	t.Txn = t.Txn.Then(ops...)
	return t
}

func (t *troubledTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Else(ops...)
	return t
}

func (t *troubledTxn) Commit() (*clientv3.TxnResponse, error) {
	return ask(t.ctx, t.trouble, t.write, t.Txn.Commit)
}
