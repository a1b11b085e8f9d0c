package elb

import (
	"context"
	"sync"
	"time"
)

// queue holds the keys of load balancers that are to be looked at. A key that waits is not added twice; one that
// is being worked on and is added again is worked on once more, by one worker at a time.
type queue struct {
	ctx    context.Context
	mu     sync.Mutex
	state  map[string]keyState
	ready  []string
	wake   chan struct{} // holds one token while ready is not empty
	timers map[string]*time.Timer
}

type keyState int

const (
	waiting keyState = iota + 1
	working
	workingAndWaiting
)

func (q *queue) init(ctx context.Context) {
	q.ctx = ctx
	q.state = map[string]keyState{}
	q.wake = make(chan struct{}, 1)
	q.timers = map[string]*time.Timer{}
	context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, t := range q.timers {
			t.Stop()
		}
	})
}

func (q *queue) add(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(key)
}

func (q *queue) addLocked(key string) {
	if t, ok := q.timers[key]; ok {
		t.Stop()
		delete(q.timers, key)
	}
	switch q.state[key] {
	case waiting, workingAndWaiting:
	case working:
		q.state[key] = workingAndWaiting
	default:
		q.state[key] = waiting
		q.ready = append(q.ready, key)
		q.signal()
	}
}

// addAfter adds a key later, unless something else adds it before.
func (q *queue) addAfter(key string, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ctx.Err() != nil || q.timers[key] != nil {
		return
	}
	q.timers[key] = time.AfterFunc(pause, func() { q.add(key) })
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for a key; false when the context has ended. done must follow.
func (q *queue) next() (string, bool) {
	for {
		select {
		case <-q.ctx.Done():
			return "", false
		case <-q.wake:
		}
		if key, ok := q.take(); ok {
			return key, true
		}
	}
}

func (q *queue) take() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ready) == 0 {
		return "", false
	}
	key := q.ready[0]
	q.ready = q.ready[1:]
	q.state[key] = working
	if len(q.ready) > 0 {
		q.signal()
	}
	return key, true
}

func (q *queue) done(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	again := q.state[key] == workingAndWaiting
	delete(q.state, key)
	if again {
		q.addLocked(key)
	}
}

// keyedLocks is a lock for each load balancer, so that calls and the reconcile loop take turns.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	sync.Mutex
	users int
}

func (k *keyedLocks) init() { k.locks = map[string]*keyedLock{} }

func (k *keyedLocks) lock(key string) (unlock func()) {
	k.mu.Lock()
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, key)
		}
	}
}
