package ec2

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

// view is the instances' records in memory, kept like the store by a watch and by the service's own writes, so
// that describing instances and telling nodes read no record. A record's Version keeps an older echo from
// undoing a newer write.
type view struct {
	mu        sync.RWMutex
	byID      map[string]*entry
	accounts  map[string][]*entry // in the order of compareEntries
	nodes     map[string]map[string]*entry
	addresses map[string]string // of instances that are not terminated: IP -> instance
	profiled  map[profileKey]map[string]*entry
	// associations are those of instances that are not terminated: id of the association -> instance.
	associations map[string]*entry
	all          map[*subscription]struct{}
	byNode       map[string]map[*subscription]struct{}
}

// entry is one record with its wire form, made when first asked for.
type entry struct {
	inst     Instance
	revision int64 // of the store, that wrote it; 0 when it is not known
	once     sync.Once
	wire     ec2model.Instance
}

func (e *entry) toWire(region string) ec2model.Instance {
	e.once.Do(func() { e.wire = wireInstance(&e.inst, region) })
	return e.wire
}

func compareEntries(a, b *entry) int {
	return cmp.Or(
		a.inst.LaunchTime.Compare(b.inst.LaunchTime),
		cmp.Compare(a.inst.ReservationID, b.inst.ReservationID),
		cmp.Compare(a.inst.LaunchIndex, b.inst.LaunchIndex),
		cmp.Compare(a.inst.ID, b.inst.ID),
	)
}

func (v *view) init() {
	v.byID = map[string]*entry{}
	v.accounts = map[string][]*entry{}
	v.nodes = map[string]map[string]*entry{}
	v.addresses = map[string]string{}
	v.profiled = map[profileKey]map[string]*entry{}
	v.associations = map[string]*entry{}
	v.all = map[*subscription]struct{}{}
	v.byNode = map[string]map[*subscription]struct{}{}
}

// reset makes the view hold exactly records, or newer ones of the same instances.
func (v *view) reset(records []Instance) {
	v.mu.Lock()
	defer v.mu.Unlock()
	present := make(map[string]struct{}, len(records))
	for i := range records {
		present[records[i].ID] = struct{}{}
		v.putLocked(records[i], 0)
	}
	for id := range v.byID {
		if _, ok := present[id]; !ok {
			v.removeLocked(id)
		}
	}
}

// put takes a record as the store has it since revision.
func (v *view) put(inst Instance, revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.putLocked(inst, revision)
}

func (v *view) putLocked(inst Instance, revision int64) {
	e := &entry{inst: inst, revision: revision}
	if old, ok := v.byID[inst.ID]; ok {
		if old.inst.Version >= inst.Version {
			return
		}
		v.dropIndexes(old)
	}
	v.byID[inst.ID] = e
	// What the order goes by never changes, so that a newer record takes the older one's place.
	list := v.accounts[inst.AccountID]
	at, known := slices.BinarySearchFunc(list, e, compareEntries)
	if known {
		list[at] = e
	} else {
		v.accounts[inst.AccountID] = slices.Insert(list, at, e)
	}
	if inst.State != Terminated {
		if v.nodes[inst.NodeID] == nil {
			v.nodes[inst.NodeID] = map[string]*entry{}
		}
		v.nodes[inst.NodeID][inst.ID] = e
	}
	if inst.PrivateIP != "" {
		v.addresses[inst.PrivateIP] = inst.ID
	}
	if key := e.inst.profileKey(); key.name != "" && inst.State != Terminated {
		if v.profiled[key] == nil {
			v.profiled[key] = map[string]*entry{}
		}
		v.profiled[key][inst.ID] = e
	}
	if id := e.inst.associationID(); id != "" && inst.State != Terminated {
		v.associations[id] = e
	}
	v.tell(e)
}

func (v *view) remove(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.removeLocked(id)
}

func (v *view) removeLocked(id string) {
	old, ok := v.byID[id]
	if !ok {
		return
	}
	v.dropIndexes(old)
	delete(v.byID, id)
	account := old.inst.AccountID
	list := v.accounts[account]
	if at, found := slices.BinarySearchFunc(list, old, compareEntries); found {
		list = slices.Delete(list, at, at+1)
	}
	if v.accounts[account] = list; len(list) == 0 {
		delete(v.accounts, account)
	}
	v.tell(old)
}

// dropIndexes takes a record out of the indexes whose place may change.
func (v *view) dropIndexes(old *entry) {
	if on := v.nodes[old.inst.NodeID]; on != nil {
		if delete(on, old.inst.ID); len(on) == 0 {
			delete(v.nodes, old.inst.NodeID)
		}
	}
	if v.addresses[old.inst.PrivateIP] == old.inst.ID {
		delete(v.addresses, old.inst.PrivateIP)
	}
	delete(v.associations, old.inst.associationID())
	key := old.inst.profileKey()
	if with := v.profiled[key]; with != nil {
		if delete(with, old.inst.ID); len(with) == 0 {
			delete(v.profiled, key)
		}
	}
}

// tell wakes those who follow the instance.
func (v *view) tell(e *entry) {
	for sub := range v.all {
		sub.mark(e.inst.ID)
	}
	for sub := range v.byNode[e.inst.NodeID] {
		sub.mark(e.inst.ID)
	}
}

// known says whether the view has the record as that revision of the store wrote it.
func (v *view) known(id string, revision int64) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	e, ok := v.byID[id]
	return ok && e.revision >= revision
}

func (v *view) get(id string) (*entry, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	e, ok := v.byID[id]
	return e, ok
}

// account returns an account's instances in order. The slice is the caller's.
func (v *view) account(id string) []*entry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Clone(v.accounts[id])
}

// onNode returns the instances of a node that are not terminated, in order.
func (v *view) onNode(nodeID string) []*entry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	on := make([]*entry, 0, len(v.nodes[nodeID]))
	for _, e := range v.nodes[nodeID] {
		on = append(on, e)
	}
	slices.SortFunc(on, compareEntries)
	return on
}

// withProfile returns the instances that have a profile and are not terminated.
func (v *view) withProfile(key profileKey) []*entry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Collect(maps.Values(v.profiled[key]))
}

// associated returns the instance of an association.
func (v *view) associated(id string) (*entry, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	e, ok := v.associations[id]
	return e, ok
}

// profiles returns the profiles that instances have.
func (v *view) profiles() []profileKey {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Collect(maps.Keys(v.profiled))
}

// everything returns all instances in order.
func (v *view) everything() []*entry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	list := make([]*entry, 0, len(v.byID))
	for _, e := range v.byID {
		list = append(list, e)
	}
	slices.SortFunc(list, compareEntries)
	return list
}

func (v *view) addressUsed(ip string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, used := v.addresses[ip]
	return used
}

// subscription collects the ids of instances that changed, until somebody takes them. It never holds an id twice,
// so a slow reader costs no memory.
type subscription struct {
	mu    sync.Mutex
	ids   []string
	known map[string]struct{}
	wake  chan struct{}
}

func (s *subscription) mark(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[id]; ok {
		return
	}
	s.known[id] = struct{}{}
	s.ids = append(s.ids, id)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.ids
	s.ids = nil
	clear(s.known)
	return ids
}

// subscribe follows the instances of one node, or all with an empty nodeID, until the returned function is called.
func (v *view) subscribe(nodeID string) (*subscription, func()) {
	sub := &subscription{known: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	v.mu.Lock()
	defer v.mu.Unlock()
	if nodeID == "" {
		v.all[sub] = struct{}{}
		return sub, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			delete(v.all, sub)
		}
	}
	if v.byNode[nodeID] == nil {
		v.byNode[nodeID] = map[*subscription]struct{}{}
	}
	v.byNode[nodeID][sub] = struct{}{}
	return sub, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if delete(v.byNode[nodeID], sub); len(v.byNode[nodeID]) == 0 {
			delete(v.byNode, nodeID)
		}
	}
}
