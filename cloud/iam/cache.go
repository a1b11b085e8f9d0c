package iam

import (
	"container/list"
	"context"
	"sync"
)

// lru keeps at most limit values, the least recently used leaving first. It is not safe for use by itself: whoever
// holds it locks.
type lru[V any] struct {
	limit   int
	order   *list.List // of *entry[V], most recently used first
	entries map[string]*list.Element
}

type entry[V any] struct {
	key   string
	value V
}

func newLRU[V any](limit int) lru[V] {
	return lru[V]{limit: limit, order: list.New(), entries: make(map[string]*list.Element)}
}

func (l *lru[V]) get(key string) (v V, ok bool) {
	e, ok := l.entries[key]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*entry[V]).value, true
}

func (l *lru[V]) put(key string, v V) {
	l.remove(key)
	l.entries[key] = l.order.PushFront(&entry[V]{key, v})
	if l.order.Len() > l.limit {
		l.remove(l.order.Back().Value.(*entry[V]).key)
	}
}

func (l *lru[V]) remove(key string) {
	if e, ok := l.entries[key]; ok {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}

func (l *lru[V]) clear() {
	l.order.Init()
	clear(l.entries)
}

// cache is a bounded read-through cache of values made from store records. A value never outlives its record: drop
// removes it and also spoils any load under way, which may have read the record before it was written.
type cache[V any] struct {
	load func(ctx context.Context, key string) (V, error)
	// with is a cache of what is made from several of the same records: it forgets everything when one is dropped.
	with dependent

	mu   sync.Mutex
	live bool // the watch that drops other processes' writes is running; else nothing is kept
	kept lru[V]
	// loads are those under way, by key; true means spoilt.
	loads map[string]map[*bool]struct{}
}

type dependent interface {
	forget()
	setLive(live bool)
}

func newCache[V any](limit int, load func(ctx context.Context, key string) (V, error)) *cache[V] {
	return &cache[V]{load: load, kept: newLRU[V](limit), loads: make(map[string]map[*bool]struct{})}
}

// get returns the value under key, loading it when it is not there. Errors are not kept.
func (c *cache[V]) get(ctx context.Context, key string) (V, error) {
	return c.getWith(ctx, key, c.load)
}

// getWith is get with another way to load.
func (c *cache[V]) getWith(ctx context.Context, key string, load func(context.Context, string) (V, error)) (V, error) {
	c.mu.Lock()
	if v, ok := c.kept.get(key); ok {
		c.mu.Unlock()
		return v, nil
	}
	spoilt := !c.live
	if c.loads[key] == nil {
		c.loads[key] = make(map[*bool]struct{})
	}
	c.loads[key][&spoilt] = struct{}{}
	c.mu.Unlock()

	v, err := load(ctx, key)

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loads[key], &spoilt)
	if len(c.loads[key]) == 0 {
		delete(c.loads, key)
	}
	if err == nil && !spoilt {
		c.kept.put(key, v)
	}
	return v, err
}

// drop forgets key.
func (c *cache[V]) drop(key string) {
	if c.with != nil {
		c.with.forget()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept.remove(key)
	for spoilt := range c.loads[key] {
		*spoilt = true
	}
}

// setLive says whether other processes' writes are seen. Either way everything is forgotten.
func (c *cache[V]) setLive(live bool) {
	if c.with != nil {
		c.with.setLive(live)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = live
	c.forgetLocked()
}

// forget forgets everything.
func (c *cache[V]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked()
}

func (c *cache[V]) forgetLocked() {
	c.kept.clear()
	for _, loads := range c.loads {
		for spoilt := range loads {
			*spoilt = true
		}
	}
}
