package ec2_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func TestExpiry(t *testing.T) {
	t.Run("the guest says why", func(t *testing.T) {
		b := bear(t, start(t), 30*time.Second)
		cert := b.cert()
		b.iam.failToSign(errors.New("out of reach"))
		b.later(31 * time.Second)
		b.link.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{
			{InstanceId: b.id, State: "failed", Reason: "identity expired\nthe console's last lines"}}})
		inst := b.wantState(t, b.id, ec2.Terminated)
		if !strings.HasPrefix(inst.Reason.Message, "identity expired") {
			t.Errorf("reason %q", inst.Reason.Message)
		}
		b.happens("ec2.identity_expired", "serial", serial(cert))
		b.wantGood(t, cert, "its instance is terminated")
	})
	t.Run("a guest that says so too early is not believed", func(t *testing.T) {
		b := bear(t, start(t), 365*day)
		b.link.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{
			{InstanceId: b.id, State: "failed", Reason: "identity expired"}}})
		if inst := b.wantState(t, b.id, ec2.Terminated); !strings.HasPrefix(inst.Reason.Message, "the guest failed") {
			t.Errorf("reason %q", inst.Reason.Message)
		}
	})
	t.Run("the cloud ends a guest that does not", func(t *testing.T) {
		b := bear(t, start(t), 30*time.Second)
		b.iam.failToSign(errors.New("out of reach"))
		b.later(80 * time.Second)
		if inst, err := b.Instance(t.Context(), b.id); err != nil || inst.State != ec2.Running {
			t.Errorf("ended before its grace: %s, %v", inst.State, err)
		}
		b.later(20 * time.Second)
		inst := b.wantState(t, b.id, ec2.ShuttingDown)
		if !strings.HasPrefix(inst.Reason.Message, "identity expired") {
			t.Errorf("reason %q", inst.Reason.Message)
		}
		if d := b.link.recv(); len(d.GetRemove()) != 1 {
			t.Errorf("the node was told %v, want the instance's end", d)
		}
	})
}

func TestRevoke(t *testing.T) {
	b := bear(t, start(t), 365*day)
	first := b.cert()
	if _, err := b.Renew(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	b.renewed() // one is under way: both are withdrawn
	second := b.cert()
	client := b.dialAs(t, b.serve(t), b.node)
	ask := func() error {
		_, err := client.RoleCredentials(t.Context(), &nodelink.RoleCredentialsRequest{InstanceId: b.id})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if b.SessionRevoked(b.id) {
		t.Error("sessions are refused before the revocation")
	}
	inst, err := b.Revoke(t.Context(), b.id, "uid 7", "the key was seen elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	if inst.State != ec2.ShuttingDown || inst.Credential != nil ||
		!strings.Contains(inst.Reason.Message, "seen elsewhere") {
		t.Errorf("state %s, credential %v, reason %q", inst.State, inst.Credential != nil, inst.Reason.Message)
	}
	for _, cert := range []*x509.Certificate{first, second} {
		b.wantGood(t, cert, "by uid 7: the key was seen elsewhere")
	}
	if err := ask(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("role credentials: %v, want PermissionDenied", err)
	}
	if !b.SessionRevoked(b.id) {
		t.Error("sessions that are out are not refused")
	}
	events := b.events("ec2.identity_revoked")
	if len(events) != 1 || events[0]["by"] != "uid 7" || events[0]["reason"] != "the key was seen elsewhere" ||
		events[0]["serials"] != serial(first)+" "+serial(second) {
		t.Errorf("audit %v", events)
	}
	if d := b.link.recv(); len(d.GetRemove()) != 1 || d.GetRemove()[0] != b.id {
		t.Errorf("the node was told %v, want the instance's end", d)
	}
	// What a node still says of the medium changes nothing.
	b.says("running", b.wiped("read"))
	b.says("stopped")
	b.wantState(t, b.id, ec2.Terminated)
	b.wantGood(t, second, "by uid 7")
	b.clock.Add(6 * time.Hour) // longer than other instances are remembered, shorter than credentials live
	if b.Sweep(t.Context()); !b.SessionRevoked(b.id) {
		t.Error("sessions that are out are taken again once the instance is forgotten")
	}
	if _, err := b.Revoke(t.Context(), b.id, "uid 7", "again"); !errors.Is(err, ec2.ErrEnded) {
		t.Errorf("revoked again: %v, want ErrEnded", err)
	}
	if _, err := b.Renew(t.Context(), b.id); !errors.Is(err, ec2.ErrEnded) {
		t.Errorf("renewed after its end: %v, want ErrEnded", err)
	}
}

func TestRevokeRefuses(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	web := c.run(t, demo)[0]
	for _, tt := range []struct {
		name, id, reason string
		want             error
	}{
		{"unknown", "i-00000000000000000", "because", ec2.ErrNotFound},
		{"no id at all", "../x", "because", ec2.ErrNotFound},
		{"no LBVM", web, "because", ec2.ErrNoIdentity},
		{"no reason", web, "", ec2.ErrReason},
		{"a long reason", web, strings.Repeat("x", 257), ec2.ErrReason},
		{"a reason of two lines", web, "a\nb", ec2.ErrReason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := c.Revoke(t.Context(), tt.id, "uid 7", tt.reason); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := c.Renew(t.Context(), web); !errors.Is(err, ec2.ErrNoIdentity) {
		t.Errorf("renew a web guest: %v", err)
	}
	if inst, err := c.Instance(t.Context(), web); err != nil || inst.State != ec2.Pending {
		t.Errorf("the refusals changed it: %s, %v", inst.State, err)
	}
	if events := c.events("ec2.identity_revoked"); len(events) != 0 {
		t.Errorf("audit %v", events)
	}
}
