package store

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultAnswerTimeout is how long an external cluster may take to answer a question: longer than it takes to choose a
// new leader, and short enough that callers learn that it is gone before they give up themselves.
const DefaultAnswerTimeout = 5 * time.Second

// How a connection is found dead whose other end went away without a word, as a host that lost its power: nothing came
// for the first time, and then no answer for the second. etcd refuses clients that ask more often than every 5 s.
const (
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// bounded gives each question to etcd a time of its own: etcd's client waits for a server for as long as its caller
// does. Watches keep their caller's.
func bounded(client *clientv3.Client, timeout time.Duration) {
	client.KV = &boundedKV{KV: client.KV, timeout: timeout}
}

type boundedKV struct {
	clientv3.KV
	timeout time.Duration
}

// within asks in a part of the caller's time. ErrUnreachable means that it was over before the caller's.
func within[T any](ctx context.Context, timeout time.Duration, ask func(context.Context) (*T, error)) (*T, error) {
	part, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := ask(part)
	if err != nil && part.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: no answer within %s", ErrUnreachable, timeout)
	}
	return answer, err
}

func (k *boundedKV) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (
	*clientv3.PutResponse, error) {
	return within(ctx, k.timeout, func(ctx context.Context) (*clientv3.PutResponse, error) {
		return k.KV.Put(ctx, key, value, opts...)
	})
}

func (k *boundedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return within(ctx, k.timeout, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return k.KV.Get(ctx, key, opts...)
	})
}

func (k *boundedKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (
	*clientv3.DeleteResponse, error) {
	return within(ctx, k.timeout, func(ctx context.Context) (*clientv3.DeleteResponse, error) {
		return k.KV.Delete(ctx, key, opts...)
	})
}

func (k *boundedKV) Txn(ctx context.Context) clientv3.Txn { return &boundedTxn{kv: k, ctx: ctx} }

// boundedTxn keeps what is asked until Commit, when its time begins.
type boundedTxn struct {
	kv        *boundedKV
	ctx       context.Context //nolint:containedctx // as clientv3's own transactions have it
	when      []clientv3.Cmp
	then, not []clientv3.Op
}

func (t *boundedTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.when = cs
	return t
}

func (t *boundedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.then = ops
	return t
}

func (t *boundedTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.not = ops
	return t
}

func (t *boundedTxn) Commit() (*clientv3.TxnResponse, error) {
	return within(t.ctx, t.kv.timeout, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return t.kv.KV.Txn(ctx).If(t.when...).Then(t.then...).Else(t.not...).Commit()
	})
}
