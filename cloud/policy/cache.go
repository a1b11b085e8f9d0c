package policy

import (
	"container/list"
	"sync"
)

// Cache keeps compiled documents by grammar and text, at most a fixed number of them, the least recently used
// leaving first. Documents that do not compile are not kept.
type Cache struct {
	limit int
	mu    sync.Mutex
	order *list.List // of *cached, most recently used first
	byKey map[cacheKey]*list.Element
}

type cacheKey struct {
	grammar Grammar
	text    string
}

type cached struct {
	key cacheKey
	doc *Document
}

// NewCache returns a cache of at most limit documents; 0 means 4,096.
func NewCache(limit int) *Cache {
	if limit <= 0 {
		limit = 4096
	}
	return &Cache{limit: limit, order: list.New(), byKey: make(map[cacheKey]*list.Element)}
}

// Parse is the package's Parse through the cache.
func (c *Cache) Parse(text string, g Grammar) (*Document, error) {
	key := cacheKey{g, text}
	if d := c.get(key); d != nil {
		return d, nil
	}
	d, err := Parse(text, g)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		return e.Value.(*cached).doc, nil
	}
	c.byKey[key] = c.order.PushFront(&cached{key, d})
	if c.order.Len() > c.limit {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.byKey, last.Value.(*cached).key)
	}
	return d, nil
}

func (c *Cache) get(key cacheKey) *Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).doc
}

// Len returns how many documents are kept.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}
