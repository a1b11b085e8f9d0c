package elb

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	system = "000000000001"
	alice  = "111111111111"
	bob    = "222222222222"
	certA  = "arn:aws:iam::" + alice + ":server-certificate/a"
	certB  = "arn:aws:iam::" + alice + ":server-certificate/sites/b"
	certX  = "arn:aws:iam::" + bob + ":server-certificate/x"
	// soon bounds what the loop does by itself.
	soon = time.Minute
)

// world is a Service on a real store, with fakes of iam and ec2.
type world struct {
	*Service
	t   *testing.T
	iam *fakeIAM
	ec2 *fakeEC2
	dir string
	cfg Config
}

func newWorld(t *testing.T, alter ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, iam: newFakeIAM(certA, certB, certX), ec2: newFakeEC2(), dir: t.TempDir()}
	w.cfg = Config{
		IAM: w.iam, EC2: w.ec2, SystemAccountID: system, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
	}
	for _, a := range alter {
		a(&w.cfg)
	}
	w.openStore()
	w.start()
	return w
}

func (w *world) openStore() {
	w.t.Helper()
	s, err := store.Open(context.WithoutCancel(w.t.Context()), store.Config{Dir: w.dir})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Store = s
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// start makes the service anew on the same store, as a restart of the cloud does.
func (w *world) start() {
	w.t.Helper()
	s, err := New(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Service = s
	w.t.Cleanup(s.Close)
}

func as(accountID string) context.Context {
	return authn.WithCaller(context.Background(), authn.Caller{
		Kind: authn.KindRoot, AccountID: accountID, ARN: "arn:aws:iam::" + accountID + ":root",
	})
}

// do runs an operation as the front door does: form in, output or AWS's error out.
func (w *world) do(accountID, operation string, fields ...string) (any, error) {
	w.t.Helper()
	h, ok := elbmodel.Handlers(w.Service)[operation]
	if !ok {
		w.t.Fatalf("no operation %s", operation)
	}
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	in, err := h.Decode(form)
	if err != nil {
		return nil, err
	}
	out, err := h.Call(as(accountID), in)
	if err != nil {
		return nil, err
	}
	if _, err := h.Encode(out, "", "request"); err != nil {
		w.t.Errorf("encode the answer of %s: %v", operation, err)
	}
	return out, nil
}

// must is do for what has to succeed.
func must[T any](w *world, accountID, operation string, fields ...string) T {
	w.t.Helper()
	out, err := w.do(accountID, operation, fields...)
	if err != nil {
		w.t.Fatalf("%s: %v", operation, err)
	}
	typed, ok := out.(T)
	if !ok {
		w.t.Fatalf("%s answered %T", operation, out)
	}
	return typed
}

// listener returns the form fields of listener number n.
func listener(n int, protocol string, port int, instanceProtocol string, instancePort int, arn string) []string {
	prefix := "Listeners.member." + strconv.Itoa(n) + "."
	fields := []string{
		prefix + "Protocol", protocol, prefix + "LoadBalancerPort", strconv.Itoa(port),
		prefix + "InstancePort", strconv.Itoa(instancePort),
	}
	if instanceProtocol != "" {
		fields = append(fields, prefix+"InstanceProtocol", instanceProtocol)
	}
	if arn != "" {
		fields = append(fields, prefix+"SSLCertificateId", arn)
	}
	return fields
}

func join(parts ...[]string) []string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func named(name string) []string { return []string{"LoadBalancerName", name} }

var zone = []string{"AvailabilityZones.member.1", "us-east-1a"}

// create makes a load balancer with an HTTPS listener that names certA.
func (w *world) create(name string) string {
	w.t.Helper()
	out := must[*elbmodel.CreateLoadBalancerOutput](w, alice, "CreateLoadBalancer",
		join(named(name), zone, listener(1, "HTTPS", 443, "HTTP", 80, certA))...)
	return model.Val(out.DNSName)
}

// lbvm waits until exactly one LBVM lives and is exposed, and returns it.
func (w *world) lbvm() ec2.Instance {
	w.t.Helper()
	var found ec2.Instance
	w.eventually("one LBVM lives and is exposed", func() bool {
		list := w.ec2.lbvms()
		if len(list) != 1 || len(list[0].Exposures) == 0 {
			return false
		}
		found = list[0]
		_, known := w.view.servedBy(found.ID)
		return known
	})
	return found
}

func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("not within %s: %s", soon, what)
		}
	}
}

// guest is the context of a call that an LBVM makes with its role session.
func guest(id, role string) context.Context {
	return authn.WithCaller(context.Background(), authn.Caller{
		Kind: authn.KindRole, AccountID: system, System: true, RoleName: role, SessionName: id, InstanceID: id,
		ARN: "arn:aws:sts::" + system + ":assumed-role/" + role + "/" + id, RequestID: "request",
	})
}

func (w *world) describeAs(ctx context.Context, id, revision string, wait time.Duration) (*servo.Description, error) {
	_, body, err := w.DescribeLoadBalancersByServo(ctx, servo.DescribeForm(id, revision, wait))
	if err != nil {
		return nil, err
	}
	return servo.ParseDescription(body)
}

func code(err error) string {
	var answer *model.Error
	if errors.As(err, &answer) {
		return answer.Code
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return ""
}
