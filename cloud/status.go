package cloud

import (
	"context"
	"net/http"
	"os"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

var (
	_ operator.Backend  = (*Cloud)(nil)
	_ operator.Recorder = (*Cloud)(nil)
)

// Endpoint is the API's URL over HTTP.
func (c *Cloud) Endpoint() string { return "http://" + c.api.Addr().String() }

// CAPEM is the certificate that signed the API's over TLS.
func (c *Cloud) CAPEM() []byte { return c.placement.CA().CertPEM() }

// NodeLink is host:port for nodes.
func (c *Cloud) NodeLink() string { return c.nodes.Addr().String() }

// Credentials returns the keys of the first account's root user; they are made when first asked for.
func (c *Cloud) Credentials(ctx context.Context) (operator.Credentials, error) {
	return c.rootKeys(ctx, UserAccountID)
}

// NewNodeToken makes a one-time token with which a node enrols.
func (c *Cloud) NewNodeToken(ctx context.Context) (string, error) { return c.placement.NewToken(ctx) }

// RecordChange writes down what an operator had the cloud do.
func (c *Cloud) RecordChange(ctx context.Context, ev journal.Event) { c.journal.Record(ctx, ev) }

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
// records by table.
func (c *Cloud) StoreSize(ctx context.Context) (bytes int64, records map[string]int64, err error) {
	records, err = c.store.Records(ctx)
	return c.store.Size(), records, err
}

// Status returns what runs.
func (c *Cloud) Status(context.Context) (operator.Status, error) {
	s := operator.Status{
		PID: os.Getpid(), Endpoint: c.Endpoint(), TLSEndpoint: "https://" + c.apiTLS.Addr().String(),
		NodeLink: c.NodeLink(), Region: c.cfg.Region,
	}
	for _, n := range c.placement.Nodes() {
		s.Nodes = append(s.Nodes, operatorNode(&n.Node))
	}
	for _, i := range c.ec2.Instances() {
		s.Instances = append(s.Instances, operatorInstance(&i))
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

// stageAfter is how far a guest is that was at a stage and passes a milestone. Dropped frames can come at any time, and
// that a guest which serves lets people log in, too, is no stage of its way to there.
func stageAfter(stage, milestone string) string {
	if milestone == nodelink.StageFramesDropped || milestone == agentSSH && stage == agentServing {
		return stage
	}
	return milestone
}

// What guests say of themselves.
const (
	agentServing = "serving"
	agentSSH     = "ssh"
)

// operatorInstance is an instance as its operator sees it.
func operatorInstance(i *ec2.Instance) operator.Instance {
	out := operator.Instance{
		ID: i.ID, AccountID: i.AccountID, OwnedFor: i.OwnedFor, Name: i.Tags["Name"], Image: i.ImageName, NodeID: i.NodeID,
		State: string(i.State), Reason: i.Reason.Message, PrivateIP: i.PrivateIP, SSH: i.SSHAddress(),
		Launched: i.LaunchTime, ConsolePath: i.ConsolePath,
	}
	for _, m := range i.Milestones {
		out.Stage = stageAfter(out.Stage, m.Stage)
		if how := m.Attributes["guests"]; how != "" {
			out.Guests = how // of the machine that was started last
		}
	}
	if id := i.Identity; id != nil {
		out.Identity = &operator.Identity{Renewals: id.Renewals, Renewing: id.Next != nil || id.Wanted, Failures: id.Failures}
		if id.Current != nil {
			out.Identity.Serial, out.Identity.NotAfter = id.Current.Serial, id.Current.NotAfter
		}
	}
	return out
}
