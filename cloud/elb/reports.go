package elb

import (
	"maps"
	"slices"
	"sync"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
)

// health holds what guests reported of back-end instances. It is an observation, not a decision: it is not stored,
// and after a restart the guests' next reports bring it back.
type health struct {
	mu      sync.Mutex
	reports map[string]map[string]string // LBVM to instance to state
}

func (h *health) init() { h.reports = map[string]map[string]string{} }

// report takes the states of registered instances and lays aside all others. It returns those that are new.
func (h *health) report(lb *LoadBalancer, guest string, states map[string]string) (changed map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.reports[guest]
	if known == nil {
		known = map[string]string{}
		h.reports[guest] = known
	}
	changed = map[string]string{}
	for id, state := range states {
		if slices.Contains(lb.Backends, id) && known[id] != state {
			known[id] = state
			changed[id] = state
		}
	}
	return changed
}

// of returns what the load balancer's guests say of an instance: in service when one of them can use it, empty when
// none has spoken.
func (h *health) of(lb *LoadBalancer, instanceID string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := ""
	for _, vm := range lb.LBVMs {
		switch h.reports[vm.InstanceID][instanceID] {
		case servo.InService:
			return servo.InService
		case servo.OutOfService:
			state = servo.OutOfService
		}
	}
	return state
}

// forget drops what is known of instances that left the load balancer: one that comes back begins anew.
func (h *health) forget(lb *LoadBalancer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, vm := range lb.LBVMs {
		maps.DeleteFunc(h.reports[vm.InstanceID], func(id, _ string) bool { return !slices.Contains(lb.Backends, id) })
	}
}

// ended drops a guest's reports.
func (h *health) ended(guest string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reports, guest)
}
