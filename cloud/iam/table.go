package iam

import (
	"context"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// table is a store table whose records are cached in the compiled form V. Every write drops the record from the
// cache before it returns, whatever its outcome: a write whose answer was lost may have happened.
type table[T, V any] struct {
	*store.Table[T]
	cache *cache[V]
	pages *cache[tablePage[T]]
}

// keptPages is how many parts of a table are kept as they were listed, of at most largestPage+1 records each.
const keptPages = 8

// tablePage is what Page returned. It is shared and not changed.
type tablePage[T any] struct {
	values []T
	keys   []string
	more   bool
}

func newTable[T, V any](s *store.Store, name string, limit int, compile func(*T) (V, error)) *table[T, V] {
	t := &table[T, V]{Table: store.NewTable[T](s, name)}
	t.cache = newCache(limit, func(ctx context.Context, key string) (v V, err error) {
		rec, err := t.Get(ctx, key)
		if err != nil {
			return v, err
		}
		return compile(&rec)
	})
	t.pages = newCache[tablePage[T]](keptPages, nil)
	t.cache.with = t.pages
	return t
}

// orZero has a missing record count as an empty one, which is cached like others.
func (t *table[T, V]) orZero(compile func(*T) (V, error)) *table[T, V] {
	load := t.cache.load
	t.cache.load = func(ctx context.Context, key string) (V, error) {
		v, err := load(ctx, key)
		if isMissing(err) {
			return compile(new(T))
		}
		return v, err
	}
	return t
}

// Page is the store's Page, kept until a record of the table is written: tools list the same again and again. What it
// returns is shared and must not be changed.
func (t *table[T, V]) Page(ctx context.Context, prefix, after string, limit int) ([]T, []string, bool, error) {
	key := prefix + "\x00" + after + "\x00" + strconv.Itoa(limit)
	p, err := t.pages.getWith(ctx, key, func(ctx context.Context, _ string) (p tablePage[T], err error) {
		p.values, p.keys, p.more, err = t.Table.Page(ctx, prefix, after, limit)
		return p, err
	})
	return p.values, p.keys, p.more, err
}

// cached returns the record's compiled form, or store.ErrNotFound.
func (t *table[T, V]) cached(ctx context.Context, key string) (V, error) {
	return t.cache.get(ctx, key)
}

// Create is the store's Create.
func (t *table[T, V]) Create(ctx context.Context, key string, value T) error {
	defer t.cache.drop(key)
	return t.Table.Create(ctx, key, value)
}

// Put is the store's Put.
func (t *table[T, V]) Put(ctx context.Context, key string, value T) error {
	defer t.cache.drop(key)
	return t.Table.Put(ctx, key, value)
}

// Delete is the store's Delete.
func (t *table[T, V]) Delete(ctx context.Context, key string) error {
	defer t.cache.drop(key)
	return t.Table.Delete(ctx, key)
}

// Update is the store's Update.
func (t *table[T, V]) Update(ctx context.Context, key string, change func(*T) error) (T, error) {
	defer t.cache.drop(key)
	return t.Table.Update(ctx, key, change)
}

// rewatch is the pause before a broken watch is tried again.
const rewatch = 200 * time.Millisecond

// follow drops what other processes write, until ctx ends. ready is closed when the first watch runs.
func (t *table[T, V]) follow(ctx context.Context, ready chan<- error) {
	for first := true; ; first = false {
		watch, cancel := context.WithCancel(ctx)
		keys, err := t.WatchKeys(watch)
		if err == nil {
			t.cache.setLive(true)
		}
		if first {
			ready <- err
		}
		if err == nil {
			for key := range keys {
				t.cache.drop(key)
			}
			t.cache.setLive(false)
		}
		cancel()
		pause := time.NewTimer(rewatch)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}
