package cloud

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

var _ operator.Backend = (*Cloud)(nil)

// Endpoint is the API's URL over HTTP.
func (c *Cloud) Endpoint() string { return "http://" + c.api.Addr().String() }

// CAPEM is the certificate that signed the API's over TLS.
func (c *Cloud) CAPEM() []byte { return c.placement.CA().CertPEM() }

// NodeLink is host:port for nodes.
func (c *Cloud) NodeLink() string { return c.nodes.Addr().String() }

// Credentials returns the keys of the first account's root user; they are made when first asked for.
func (c *Cloud) Credentials(ctx context.Context) (operator.Credentials, error) {
	id, secret, err := c.iam.EnsureRootKey(ctx, UserAccountID)
	if err != nil {
		return operator.Credentials{}, fmt.Errorf("root keys of account %s: %w", UserAccountID, err)
	}
	defer secret.Wipe()
	return operator.Credentials{AccountID: UserAccountID, AccessKeyID: id, SecretAccessKey: string(secret)}, nil
}

// NewNodeToken makes a one-time token with which a node enrols.
func (c *Cloud) NewNodeToken(ctx context.Context) (string, error) { return c.placement.NewToken(ctx) }

// Follow sends the journal's events until ctx ends.
func (c *Cloud) Follow(ctx context.Context) <-chan journal.Event { return c.journal.Follow(ctx) }

// Request returns the journal's events of one request; an empty id means the latest request that was denied.
func (c *Cloud) Request(_ context.Context, id string) ([]journal.Event, error) {
	if id == "" {
		var err error
		if id, err = c.journal.LastRequest(denied); err != nil {
			return nil, err
		}
	}
	return c.journal.Request(id)
}

// denied says whether an event tells of a request that was refused for who asked, not for what was asked.
func denied(ev *journal.Event) bool {
	switch ev.Kind {
	case iam.EventDenied, "policy.denied", "elb.servo_denied":
		return true
	case "api.request":
		switch ev.Attributes["status"] {
		case strconv.Itoa(http.StatusForbidden), strconv.Itoa(http.StatusUnauthorized):
			return true
		}
		return ev.Attributes["code"] == string(authn.CodeIncomplete)
	}
	return false
}

// Shutdown closes Done; whoever started the cloud then closes it.
func (c *Cloud) Shutdown() { c.once.Do(func() { close(c.shutdown) }) }

// Done is closed when somebody asked for the cloud's end.
func (c *Cloud) Done() <-chan struct{} { return c.shutdown }

// StoreSize returns the bytes that the embedded etcd's database takes (zero for an external cluster) and the number of
// its records.
func (c *Cloud) StoreSize(ctx context.Context) (bytes, records int64, err error) {
	records, err = c.store.Keys(ctx)
	return c.store.Size(), records, err
}

// Status returns what runs.
func (c *Cloud) Status(context.Context) (operator.Status, error) {
	s := operator.Status{
		PID: os.Getpid(), Endpoint: c.Endpoint(), TLSEndpoint: "https://" + c.apiTLS.Addr().String(),
		NodeLink: c.NodeLink(), Region: c.cfg.Region,
	}
	for _, n := range c.placement.Nodes() {
		state := "up"
		if n.Node.Down || n.Node.Status.MemoryMBTotal == 0 {
			state = "down"
		}
		s.Nodes = append(s.Nodes, operator.Node{
			ID: n.Node.ID, State: state, Hypervisor: n.Node.Status.Hypervisor, Accelerator: n.Node.Status.Accelerator,
			MemoryMB: uint64(n.Node.Status.MemoryMBTotal), MemoryFreeMB: uint64(n.Node.Status.MemoryMBFree),
		})
	}
	for _, i := range c.ec2.Instances() {
		stage, guests := "", ""
		for _, m := range i.Milestones {
			stage = m.Stage
			if how := m.Attributes["guests"]; how != "" {
				guests = how // of the machine that was started last
			}
		}
		s.Instances = append(s.Instances, operator.Instance{
			ID: i.ID, AccountID: i.AccountID, Name: i.Tags["Name"], Image: i.ImageName, NodeID: i.NodeID,
			State: string(i.State), Reason: i.Reason.Message, PrivateIP: i.PrivateIP, Stage: stage, Guests: guests,
			Launched: i.LaunchTime, ConsolePath: i.ConsolePath,
		})
	}
	for _, lb := range c.elb.Summaries() {
		one := operator.LoadBalancer{Name: lb.Name, AccountID: lb.AccountID, DNSName: lb.DNSName, Instances: lb.LBVMs}
		for _, l := range lb.Listeners {
			one.Listeners = append(one.Listeners, operator.Listener{Protocol: l.Protocol, Port: l.Port,
				HostAddress: l.HostAddress, Certificate: l.CertificateARN})
		}
		s.LoadBalancers = append(s.LoadBalancers, one)
	}
	return s, nil
}
