package iam_test

import (
	"context"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// device makes a virtual device for a user of the demo account and returns its serial number and what it shows.
func (w *world) device(ctx context.Context, t testing.TB, user string) (serial string, shows func(time.Time) string) {
	t.Helper()
	out := must(ctx, t, w.CreateVirtualMFADevice, &iammodel.CreateVirtualMFADeviceInput{VirtualMFADeviceName: &user})
	seed := string(out.VirtualMFADevice.Base32StringSeed)
	shows = func(at time.Time) string {
		code, err := totp.GenerateCode(seed, at)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if len(out.VirtualMFADevice.QRCodePNG) == 0 {
		t.Error("the device has no picture")
	}
	return *out.VirtualMFADevice.SerialNumber, shows
}

func TestMFA(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	alice := w.user(t, "alice", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*",`+
		`"Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"},"NumericLessThan":{"aws:MultiFactorAuthAge":"600"}}}]}`)
	serial, shows := w.device(ctx, t, "alice")
	now := w.clock.Now()
	enable := func(first, second string) error {
		_, err := w.EnableMFADevice(ctx, &iammodel.EnableMFADeviceInput{
			UserName: model.Ptr("alice"), SerialNumber: &serial, AuthenticationCode1: &first, AuthenticationCode2: &second,
		})
		return err
	}
	wantCode(t, w.VerifyMFA(t.Context(), alice, serial, shows(now)), "AccessDenied") // not hers yet
	wantCode(t, enable(shows(now), shows(now)), "InvalidAuthenticationCode")
	wantCode(t, enable(shows(now.Add(-30*time.Second)), shows(now)), "")
	wantCode(t, enable(shows(now), shows(now.Add(30*time.Second))), "EntityAlreadyExists")
	wantCode(t, w.VerifyMFA(t.Context(), alice, serial, shows(now)), "AccessDenied") // spent
	w.clock.Advance(30 * time.Second)
	now = w.clock.Now()
	wantCode(t, w.VerifyMFA(t.Context(), alice, serial, "000000"), "AccessDenied")
	wantCode(t, w.VerifyMFA(t.Context(), alice, serial, shows(now)), "")
	wantCode(t, w.VerifyMFA(t.Context(), alice, serial, shows(now)), "AccessDenied") // no code is good twice
	_, err := w.DeleteVirtualMFADevice(ctx, &iammodel.DeleteVirtualMFADeviceInput{SerialNumber: &serial})
	wantCode(t, err, "DeleteConflict")

	session := func(mfa time.Time) authn.Caller {
		creds, _ := w.session(t, iam.Session{AccountID: demoAccount, UserName: "alice", Life: time.Hour, MFA: mfa})
		return w.identify(t, creds.AccessKeyID, creds.Token)
	}
	plain, strong := session(time.Time{}), session(now)
	for who, tt := range map[string]struct {
		caller authn.Caller
		action string
		code   string
	}{
		"long-term key":          {alice, "s3:GetObject", "AccessDenied"},
		"session without a code": {plain, "s3:GetObject", "AccessDenied"},
		"session with a code":    {strong, "s3:GetObject", ""}, "IAM without a code": {plain, "iam:GetUser", "AccessDenied"},
	} {
		if got := w.may(t, tt.caller, tt.action); got != tt.code {
			t.Errorf("%s: %q, want %q", who, got, tt.code)
		}
	}
	w.clock.Advance(11 * time.Minute)
	if got := w.may(t, strong, "s3:GetObject"); got != "AccessDenied" {
		t.Errorf("a code of 11 minutes ago: %q", got)
	}
	must(ctx, t, w.UpdateUser, &iammodel.UpdateUserInput{UserName: model.Ptr("alice"), NewUserName: model.Ptr("alix")})
	must(ctx, t, w.DeactivateMFADevice, &iammodel.DeactivateMFADeviceInput{
		UserName: model.Ptr("alix"), SerialNumber: &serial,
	})
	must(ctx, t, w.DeleteVirtualMFADevice, &iammodel.DeleteVirtualMFADeviceInput{SerialNumber: &serial})
}
