package elb

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// allows tells whether the statements let a user of alice's account make a request, as the front door decides it.
func (w *world) allows(ctx context.Context, identity *iam.Service, user authn.Caller, statements, operation string,
	fields ...string) bool {
	w.t.Helper()
	document := `{"Version":"2012-10-17","Statement":[` + statements + `]}`
	if _, err := identity.PutUserPolicy(ctx, &iammodel.PutUserPolicyInput{
		UserName: &user.UserName, PolicyName: model.Ptr("p"), PolicyDocument: &document}); err != nil {
		w.t.Fatal(err)
	}
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	in, err := elbmodel.Handlers(w.Service)[operation].Decode(form)
	if err != nil {
		w.t.Fatal(err)
	}
	resources, err := w.Resources(ctx, operation, user, in)
	if err != nil {
		w.t.Fatal(err)
	}
	conditions, err := w.Conditions(ctx, operation, user, in)
	if err != nil {
		w.t.Fatal(err)
	}
	err = identity.Authorize(ctx, user, vendor+operation, resources, conditions)
	if refused, ok := errors.AsType[*model.Error](err); err != nil && (!ok || refused.Code != "AccessDenied") {
		w.t.Fatal(err)
	}
	return err == nil
}

// TestConditionKeys has each key decide, in a statement that allows and in one that denies, for a value that the
// request or its load balancer has and for one that it has not.
func TestConditionKeys(t *testing.T) {
	w := newWorld(t)
	identity, err := iam.New(t.Context(), iam.Config{
		Store: w.cfg.Store, RootKeyFile: filepath.Join(t.TempDir(), "root.key")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(identity.Close)
	identity.SetResourceKeys("elasticloadbalancing", w.Service)
	if _, err := identity.EnsureAccount(t.Context(), alice, "alice", false); err != nil {
		t.Fatal(err)
	}
	ctx := as(alice)
	if _, err := identity.CreateUser(ctx, &iammodel.CreateUserInput{UserName: model.Ptr("ann")}); err != nil {
		t.Fatal(err)
	}
	key, err := identity.CreateAccessKey(ctx, &iammodel.CreateAccessKeyInput{UserName: model.Ptr("ann")})
	if err != nil {
		t.Fatal(err)
	}
	_, ann, err := identity.Identify(ctx, *key.AccessKey.AccessKeyId, "")
	if err != nil {
		t.Fatal(err)
	}
	tags := []string{"Tags.member.1.Key", "Team", "Tags.member.1.Value", "red"}
	create := join(named("web"), zone, listener(1, "HTTP", 80, "HTTP", 80, ""), tags)
	must[any](w, alice, "CreateLoadBalancer", create...)
	one := []string{"LoadBalancerNames.member.1", "web"}
	for _, tt := range []struct {
		operation               string
		fields                  []string
		operator, key, has, not string
	}{
		{"CreateLoadBalancer", create, "StringEquals", "aws:RequestTag/Team", "red", "blue"},
		{"CreateLoadBalancer", create, "ForAnyValue:StringEquals", "aws:TagKeys", "Team", "Cost"},
		{"CreateLoadBalancer", create, "StringEquals", vendor + "Scheme", "internet-facing", "internal"},
		{"CreateLoadBalancer", join(create, []string{"Scheme", "internal"}), "StringEquals", vendor + "Scheme", "internal",
			"internet-facing"},
		{"CreateLoadBalancer", create, "ForAnyValue:StringEquals", vendor + "ListenerProtocol", "HTTP", "HTTPS"},
		{"CreateLoadBalancerListeners", join(named("web"), listener(1, "tcp", 81, "TCP", 80, "")), "StringEquals",
			vendor + "ListenerProtocol", "TCP", "HTTP"},
		{"DeleteLoadBalancer", named("web"), "StringEquals", "aws:ResourceTag/team", "red", "blue"},
		{"DeleteLoadBalancer", named("web"), "StringEquals", vendor + "ResourceTag/Team", "red", "blue"},
		{"AddTags", join(one, tags), "StringEquals", "aws:RequestTag/Team", "red", "blue"},
		{"AddTags", join(one, tags), "StringEquals", "aws:ResourceTag/Team", "red", "blue"},
		{"RemoveTags", join(one, tags[:2]), "ForAllValues:StringEquals", "aws:TagKeys", "Team", "Cost"},
	} {
		t.Run(tt.operation+" "+tt.key, func(t *testing.T) {
			const all = `{"Effect":"Allow","Action":"*","Resource":"*"}`
			for value, has := range map[string]bool{tt.has: true, tt.not: false} {
				condition := `,"Condition":{"` + tt.operator + `":{"` + tt.key + `":"` + value + `"}}}`
				allow := strings.TrimSuffix(all, "}") + condition
				if got := w.allows(ctx, identity, ann, allow, tt.operation, tt.fields...); got != has {
					t.Errorf("Allow if %s: %v, want %v", condition, got, has)
				}
				deny := all + "," + strings.Replace(allow, "Allow", "Deny", 1)
				if got := w.allows(ctx, identity, ann, deny, tt.operation, tt.fields...); got == has {
					t.Errorf("Deny if %s: allowed is %v, want %v", condition, got, !has)
				}
			}
		})
	}
	w.iam.forbid = vendor + "AddTags"
	_, err = w.do(alice, "CreateLoadBalancer", join(create, named("tagged"))...)
	if code(err) != "AccessDenied" {
		t.Errorf("made with tags without AddTags: %v", err)
	}
	if _, err := w.do(alice, "CreateLoadBalancer", join(create[:len(create)-4], named("plain"))...); err != nil {
		t.Errorf("made without tags: %v", err)
	}
}
