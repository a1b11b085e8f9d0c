package bundle

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Topology is what a cloud was made of when the bundle was made.
type Topology struct {
	Nodes         []TopologyNode         `json:"nodes"`
	Guests        []TopologyGuest        `json:"guests"`
	LoadBalancers []TopologyLoadBalancer `json:"loadBalancers"`
}

// TopologyNode is a hypervisor host.
type TopologyNode struct {
	ID       string    `json:"id"`
	Enrolled time.Time `json:"enrolled"`
	MemoryMB int       `json:"memoryMB"` // what it offers to guests
	Down     bool      `json:"down,omitempty"`
}

// TopologyGuest is an instance.
type TopologyGuest struct {
	ID        string            `json:"id"`
	AccountID string            `json:"accountId"`
	System    bool              `json:"system,omitempty"` // the cloud's own, such as a load balancer's VM
	Image     string            `json:"image"`
	Type      string            `json:"type"`
	MemoryMB  int               `json:"memoryMB"`
	VCPUs     int               `json:"vcpus"`
	Node      string            `json:"node"`
	Address   string            `json:"address,omitempty"`
	MAC       string            `json:"mac,omitempty"`
	State     string            `json:"state"`
	Launched  time.Time         `json:"launched"`
	Tags      map[string]string `json:"tags,omitempty"`

	console string // its path on the node's host
}

// TopologyLoadBalancer is a load balancer.
type TopologyLoadBalancer struct {
	AccountID string             `json:"accountId"`
	Name      string             `json:"name"`
	Address   string             `json:"address"`
	Listeners []TopologyListener `json:"listeners"`
	Backends  []string           `json:"backends,omitempty"` // instances
	VMs       []string           `json:"vms,omitempty"`
}

// TopologyListener is a port of a load balancer.
type TopologyListener struct {
	Protocol       string `json:"protocol"`
	Port           int    `json:"port"`
	CertificateARN string `json:"certificateArn,omitempty"`
}

// Topology returns the bundle's, nil when it is of no cloud.
func (b *Bundle) Topology() (*Topology, error) {
	if !b.has(topologyFile) {
		return nil, nil //nolint:nilnil // a node has none, which is no error
	}
	text, err := b.read(topologyFile, maxStatus)
	if err != nil {
		return nil, err
	}
	t := &Topology{}
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("%w: its %s: %w", ErrNotBundle, topologyFile, err)
	}
	return t, nil
}

// learn takes a record that says what there is. One that cannot be read is the record's own matter.
func (t *Topology) learn(raw *store.Raw) {
	switch {
	case strings.HasPrefix(raw.Key, nodeTable):
		var r struct {
			ID         string
			EnrolledAt time.Time
			Down       bool
			Status     struct{ MemoryMBTotal int }
		}
		if json.Unmarshal(raw.Value, &r) == nil {
			t.Nodes = append(t.Nodes, TopologyNode{r.ID, r.EnrolledAt, r.Status.MemoryMBTotal, r.Down})
		}
	case strings.HasPrefix(raw.Key, instanceTable):
		var r struct {
			ID, AccountID, ImageName, InstanceType, NodeID, PrivateIP, MAC, State, ConsolePath string
			System                                                                             bool
			MemoryMB, VCPUs                                                                    int
			LaunchTime                                                                         time.Time
			Tags                                                                               map[string]string
		}
		if json.Unmarshal(raw.Value, &r) == nil {
			t.Guests = append(t.Guests, TopologyGuest{ID: r.ID, AccountID: r.AccountID, System: r.System, Image: r.ImageName,
				Type: r.InstanceType, MemoryMB: r.MemoryMB, VCPUs: r.VCPUs, Node: r.NodeID, Address: r.PrivateIP, MAC: r.MAC,
				State: r.State, Launched: r.LaunchTime, Tags: r.Tags, console: r.ConsolePath})
		}
	case strings.HasPrefix(raw.Key, balancerTable):
		t.learnBalancer(raw.Value)
	}
}

func (t *Topology) learnBalancer(value []byte) {
	var r struct {
		AccountID, Name, Address string
		Listeners                []TopologyListener
		Backends                 []string
		LBVMs                    []struct{ InstanceID string }
	}
	if json.Unmarshal(value, &r) != nil {
		return
	}
	lb := TopologyLoadBalancer{AccountID: r.AccountID, Name: r.Name, Address: r.Address, Listeners: r.Listeners,
		Backends: r.Backends}
	for _, vm := range r.LBVMs {
		lb.VMs = append(lb.VMs, vm.InstanceID)
	}
	t.LoadBalancers = append(t.LoadBalancers, lb)
}

// facts are what is known of a guest, for people.
func (t *Topology) facts() map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, g := range t.Guests {
		out[g.ID] = map[string]string{"account": g.AccountID, "address": g.Address, "MAC": g.MAC,
			"size":     fmt.Sprintf("%s, %d MB, %d vCPU", g.Type, g.MemoryMB, g.VCPUs),
			"launched": g.Launched.UTC().Format(time.RFC3339Nano), "name": g.Tags["Name"]}
	}
	for _, lb := range t.LoadBalancers {
		for _, id := range lb.VMs {
			if out[id] != nil {
				out[id]["load balancer"] = lb.AccountID + "/" + lb.Name + " at " + lb.Address
			}
		}
	}
	return out
}
