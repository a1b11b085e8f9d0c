package elb

import (
	"maps"
	"sync"
)

// view holds the load balancers' records as the store's watch tells them, and wakes who waits for a change. API
// calls read the store itself; the view serves the guests' questions, which are many.
type view struct {
	mu            sync.Mutex
	byKey         map[string]*LoadBalancer
	byCertificate map[string]map[string]struct{} // ARN to keys
	byBackend     map[string]map[string]struct{} // instance id to keys
	byGuest       map[string]string              // LBVM's instance id to key
	changed       map[string]chan struct{}       // key to a channel that the next change closes
}

func (v *view) init() {
	v.byKey = map[string]*LoadBalancer{}
	v.byCertificate = map[string]map[string]struct{}{}
	v.byBackend = map[string]map[string]struct{}{}
	v.byGuest = map[string]string{}
	v.changed = map[string]chan struct{}{}
}

// reset makes the view hold exactly the records and returns the keys of all, of those that are gone too.
func (v *view) reset(records []LoadBalancer) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	keys := map[string]struct{}{}
	for key := range v.byKey {
		keys[key] = struct{}{}
		v.setLocked(key, nil)
	}
	for i := range records {
		keys[records[i].key()] = struct{}{}
		v.setLocked(records[i].key(), &records[i])
	}
	list := make([]string, 0, len(keys))
	for key := range keys {
		list = append(list, key)
		v.wakeLocked(key)
	}
	return list
}

// set takes one record, nil for one that is gone.
func (v *view) set(key string, lb *LoadBalancer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.setLocked(key, lb)
	v.wakeLocked(key)
}

func (v *view) setLocked(key string, lb *LoadBalancer) {
	if old := v.byKey[key]; old != nil {
		for _, l := range old.Listeners {
			drop(v.byCertificate, l.CertificateARN, key)
		}
		for _, id := range old.Backends {
			drop(v.byBackend, id, key)
		}
		for _, vm := range old.LBVMs {
			delete(v.byGuest, vm.InstanceID)
		}
	}
	if lb == nil {
		delete(v.byKey, key)
		return
	}
	v.byKey[key] = lb
	for _, l := range lb.Listeners {
		if l.CertificateARN != "" {
			add(v.byCertificate, l.CertificateARN, key)
		}
	}
	for _, id := range lb.Backends {
		add(v.byBackend, id, key)
	}
	for _, vm := range lb.LBVMs {
		v.byGuest[vm.InstanceID] = key
	}
}

func add(index map[string]map[string]struct{}, of, key string) {
	if index[of] == nil {
		index[of] = map[string]struct{}{}
	}
	index[of][key] = struct{}{}
}

func drop(index map[string]map[string]struct{}, of, key string) {
	if delete(index[of], key); len(index[of]) == 0 {
		delete(index, of)
	}
}

// wake tells those who wait for a load balancer that something about it may have changed.
func (v *view) wake(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wakeLocked(key)
}

func (v *view) wakeAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.changed {
		v.wakeLocked(key)
	}
}

func (v *view) wakeLocked(key string) {
	if c, ok := v.changed[key]; ok {
		close(c)
		delete(v.changed, key)
	}
}

// get returns the record, which must not be altered, and a channel that closes when it has changed; nil and nil when
// there is none.
func (v *view) get(key string) (*LoadBalancer, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	lb := v.byKey[key]
	if lb == nil {
		return nil, nil
	}
	return lb, v.nextLocked(key)
}

// next returns a channel that closes when the record is told again. There must be one in the store.
func (v *view) next(key string) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.nextLocked(key)
}

func (v *view) nextLocked(key string) <-chan struct{} {
	c, ok := v.changed[key]
	if !ok {
		c = make(chan struct{})
		v.changed[key] = c
	}
	return c
}

// servedBy returns the key of the load balancer whose LBVM an instance is.
func (v *view) servedBy(instanceID string) (key string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, ok = v.byGuest[instanceID]
	return key, ok
}

// naming returns the keys of the load balancers that name a certificate.
func (v *view) naming(certificateARN string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return keysOf(v.byCertificate[certificateARN])
}

// using returns the keys of the load balancers that an instance is registered with.
func (v *view) using(instanceID string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return keysOf(v.byBackend[instanceID])
}

func keysOf(set map[string]struct{}) []string {
	list := make([]string, 0, len(set))
	for key := range maps.Keys(set) {
		list = append(list, key)
	}
	return list
}

// all returns the records of load balancers that are not being deleted. They must not be altered.
func (v *view) all() []*LoadBalancer {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]*LoadBalancer, 0, len(v.byKey))
	for _, lb := range v.byKey {
		if !lb.Deleting {
			list = append(list, lb)
		}
	}
	return list
}
