package sts_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// device gives a user of the home account an MFA device. The code that it shows next is good, once.
func (w *world) device(t *testing.T, user string) (serial, next string) {
	t.Helper()
	ctx := w.root(t, home)
	made, err := w.iam.CreateVirtualMFADevice(ctx, &iammodel.CreateVirtualMFADeviceInput{VirtualMFADeviceName: &user})
	if err != nil {
		t.Fatal(err)
	}
	shows := func(at time.Time) string {
		code, err := totp.GenerateCode(string(made.VirtualMFADevice.Base32StringSeed), at)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if _, err := w.iam.EnableMFADevice(ctx, &iammodel.EnableMFADeviceInput{
		UserName: &user, SerialNumber: made.VirtualMFADevice.SerialNumber,
		AuthenticationCode1: model.Ptr(shows(now().Add(-30 * time.Second))), AuthenticationCode2: model.Ptr(shows(now())),
	}); err != nil {
		t.Fatal(err)
	}
	return *made.VirtualMFADevice.SerialNumber, shows(now().Add(30 * time.Second))
}

// TestAssumeRoleWithMFA goes through who may assume a role whose trust policy wants a code of an MFA device.
func TestAssumeRoleWithMFA(t *testing.T) {
	w := newWorld(t)
	const failed, refused = "MultiFactorAuthentication failed", "is not authorized to perform: sts:AssumeRole"
	arn := w.role(t, "r", trust(`{"AWS":"`+home+`"}`, `,"Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"},`+
		`"NumericLessThan":{"aws:MultiFactorAuthAge":"300"}}`))
	alice, bob := w.user(t, home, "alice", mayAssume), w.user(t, home, "bob", mayAssume)
	device, code1 := w.device(t, "alice")
	bobs, code2 := w.device(t, "bob")
	strong, err := w.GetSessionToken(bob, &stsmodel.GetSessionTokenInput{SerialNumber: &bobs, TokenCode: &code2})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := w.GetSessionToken(alice, &stsmodel.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	session := func(c *stsmodel.Credentials) context.Context { return w.as(t, *c.AccessKeyId, *c.SessionToken) }
	for _, tt := range []struct {
		name         string
		caller       context.Context
		serial, code string
		says         string // empty: allowed
	}{
		{"no code", alice, "", "", refused},
		{"bad code", alice, device, "000000", failed},
		{"another's device", alice, bobs, code1, failed},
		{"no such device", alice, device + "2", code1, failed},
		{"good code", alice, device, code1, ""},
		{"spent code", alice, device, code1, failed},
		{"session that was made with a code", session(strong.Credentials), "", "", ""},
		{"session that was made without one", session(plain.Credentials), "", "", refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &stsmodel.AssumeRoleInput{RoleArn: &arn, RoleSessionName: model.Ptr("session")}
			if tt.serial != "" {
				in.SerialNumber, in.TokenCode = &tt.serial, &tt.code
			}
			out, err := w.AssumeRole(tt.caller, in)
			if tt.says != "" {
				if code(err) != "AccessDenied" || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error %v, want AccessDenied that says %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// The role's session knows nothing of the code (User Guide, "Secure API access with MFA").
			if c := authn.CallerFrom(session(out.Credentials)); c.MFA() {
				t.Error("the role's session was made with a code")
			}
		})
	}
}

// TestGetSessionTokenWithMFA shows what a code opens: IAM, and what policies keep for those who showed one.
func TestGetSessionTokenWithMFA(t *testing.T) {
	w := newWorld(t)
	const kept = `{"Effect":"Allow","Action":"iam:GetUser","Resource":"*"},{"Effect":"Deny","Action":"s3:*",` +
		`"Resource":"*","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}},` +
		`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`
	alice := w.user(t, home, "alice", statement(kept))
	device, good := w.device(t, "alice")
	for _, in := range []*stsmodel.GetSessionTokenInput{
		{SerialNumber: &device, TokenCode: model.Ptr("000000")}, {SerialNumber: &device}, {TokenCode: &good},
	} {
		if _, err := w.GetSessionToken(alice, in); err == nil {
			t.Errorf("a session for serial number %q and code %q", model.Val(in.SerialNumber), model.Val(in.TokenCode))
		}
	}
	for _, tt := range []struct {
		name     string
		in       stsmodel.GetSessionTokenInput
		iam, s3  string
		withCode bool
	}{
		{"none", stsmodel.GetSessionTokenInput{}, "AccessDenied", "AccessDenied", false},
		{"good", stsmodel.GetSessionTokenInput{SerialNumber: &device, TokenCode: &good}, "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := w.GetSessionToken(alice, &tt.in)
			if err != nil {
				t.Fatal(err)
			}
			c := authn.CallerFrom(w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken))
			if c.MFA() != tt.withCode {
				t.Errorf("made with a code: %v", c.MFA())
			}
			for action, want := range map[string]string{"iam:GetUser": tt.iam, "s3:GetObject": tt.s3} {
				if got := code(w.iam.Authorize(t.Context(), c, action, nil, nil)); got != want {
					t.Errorf("%s: %q, want %q", action, got, want)
				}
			}
		})
	}
}
