package elb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

const contentTypeXML = "text/xml"

// DescribeLoadBalancersByServo tells an LBVM what it is to serve. With the revision that the guest has, the answer
// waits, at most as long as the guest says, until there is another one. It authorises the caller itself: the
// sender must be the instance that it names, and that instance an LBVM of a load balancer that lives.
func (s *Service) DescribeLoadBalancersByServo(ctx context.Context, form url.Values) (string, []byte, error) {
	instanceID, revision, wait, err := servo.ParseDescribe(form)
	if err != nil {
		return "", nil, invalidParameter("%w", err)
	}
	s.awaitNoted(ctx, instanceID)
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for waited := wait == 0 || revision == ""; ; {
		lb, changed, err := s.servedLoadBalancer(ctx, instanceID, servo.DescribeAction)
		if err != nil {
			return "", nil, err
		}
		description, err := s.describe(ctx, lb)
		if err != nil {
			return "", nil, err
		}
		if waited || description.Revision != revision {
			body, err := description.MarshalXMLBody(authn.CallerFrom(ctx).RequestID)
			return contentTypeXML, body, err
		}
		select {
		case <-changed:
		case <-timeout.C:
			waited = true
		case <-s.ctx.Done():
			waited = true
		case <-ctx.Done():
			return "", nil, fmt.Errorf("wait for a change of %s: %w", lb.key(), ctx.Err())
		}
	}
}

// servedLoadBalancer returns the load balancer that the caller serves and a channel that closes when something
// about it has changed.
func (s *Service) servedLoadBalancer(ctx context.Context, instanceID, action string) (
	*LoadBalancer, <-chan struct{}, error) {
	c := authn.CallerFrom(ctx)
	key, ours := s.view.servedBy(instanceID)
	lb, changed := s.view.get(key)
	reason := ""
	switch {
	case c.Kind != authn.KindRole || !c.System || c.AccountID != s.cfg.SystemAccountID:
		reason = "the caller is no role session of the system account"
	case c.InstanceID == "" || c.InstanceID != instanceID:
		reason = "the caller is not the instance that it names"
	case !ours || lb == nil || lb.Deleting:
		reason = "the instance serves no load balancer"
	case s.ended(ctx, instanceID):
		reason = "the instance has ended"
	case c.RoleName != lb.roleName():
		reason = "the role is not that of the load balancer that the instance serves"
	default:
		return lb, changed, nil
	}
	s.journal(ctx, "elb.servo_denied", instanceID, map[string]string{
		"requestId": c.RequestID, "caller": c.ARN, "accessKeyId": c.AccessKeyID, "action": action, "reason": reason,
		"wanted": "a role session of an instance that serves a load balancer, with that load balancer's role, which " +
			"names itself",
	})
	return nil, nil, model.Errorf("AccessDenied", http.StatusForbidden,
		"User: %s is not authorized to perform: elasticloadbalancing:%s", c.ARN, action)
}

// ended says whether an LBVM has ended, revoked ones among them; the reconcile loop may not have noted it yet.
func (s *Service) ended(ctx context.Context, instanceID string) bool {
	inst, err := s.cfg.EC2.Instance(ctx, instanceID)
	return err != nil || !live(inst)
}

// describe makes the description of one load balancer. Its revision is a digest of the rest, so it is the same
// after a restart and on every replica of the cloud.
func (s *Service) describe(ctx context.Context, lb *LoadBalancer) (*servo.Description, error) {
	one := servo.LoadBalancer{
		Name: lb.Name, DNSName: lb.Address, AvailabilityZones: lb.AvailabilityZones, Scheme: lb.Scheme,
		CreatedTime: lb.Created.UTC().Format(time.RFC3339Nano),
		HealthCheck: servo.HealthCheck(lb.HealthCheck),
		Attributes: servo.LoadBalancerParams{
			CrossZone: lb.Attributes.CrossZone, ConnectionDraining: lb.Attributes.Draining,
			DrainingTimeout: lb.Attributes.DrainingTimeout, IdleTimeout: lb.Attributes.IdleTimeout,
		},
	}
	for _, l := range lb.Listeners {
		listener := servo.Listener{
			Protocol: l.Protocol, LoadBalancerPort: l.Port, InstanceProtocol: l.InstanceProtocol,
			InstancePort: l.InstancePort, SSLCertificateID: l.CertificateARN,
		}
		if l.secure() {
			revision, err := s.cfg.IAM.ServerCertificateRevision(ctx, l.CertificateARN)
			// A certificate that is gone is the guest's to find out: the listener closes and its neighbours serve.
			if err != nil && !hasCode(err, "NoSuchEntity") {
				return nil, fmt.Errorf("look up revision of %s: %w", l.CertificateARN, err)
			}
			listener.CertificateRevision = revision
		}
		one.Listeners = append(one.Listeners, listener)
	}
	for _, id := range lb.Backends {
		inst, err := s.cfg.EC2.Instance(ctx, id)
		if errors.Is(err, ec2.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at back-end instance %s: %w", id, err)
		}
		if live(inst) && inst.PrivateIP != "" {
			one.Backends = append(one.Backends, servo.Backend{
				InstanceID: id, IPAddress: inst.PrivateIP, ReportHealthCheck: true,
			})
		}
	}
	text, err := json.Marshal(one)
	if err != nil {
		return nil, fmt.Errorf("digest description of %s: %w", lb.key(), err)
	}
	sum := sha256.Sum256(text)
	return &servo.Description{
		LoadBalancers: []servo.LoadBalancer{one}, Revision: hex.EncodeToString(sum[:16]), Metadata: s.cfg.Intervals,
	}, nil
}

// PutServoStates takes what an LBVM sees of its back-end instances. What it says of others is laid aside.
func (s *Service) PutServoStates(ctx context.Context, form url.Values) (string, []byte, error) {
	instanceID := form.Get("InstanceId")
	if instanceID == "" {
		return "", nil, invalidParameter("InstanceId is missing")
	}
	lb, _, err := s.servedLoadBalancer(ctx, instanceID, servo.PutAction)
	if err != nil {
		return "", nil, err
	}
	states, err := servo.ParseStates(form)
	if err != nil {
		return "", nil, invalidParameter("%w", err)
	}
	for id, state := range s.health.report(lb, instanceID, states.Instances) {
		s.journal(ctx, "elb.backend_health", lb.key(), map[string]string{
			"instance": id, "state": state, "reporter": instanceID,
		})
	}
	body, err := servo.MarshalPutAnswer(s.cfg.Intervals, authn.CallerFrom(ctx).RequestID)
	return contentTypeXML, body, err
}
