package iam_test

import (
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestLastUseOutlivesRestart: what was used just before the service ended is known to the next one, and a later use
// takes its place.
func TestLastUseOutlivesRestart(t *testing.T) {
	w := newWorld(t)
	alice := w.user(t, "alice", allow("*", "*"))
	role := w.role(t, demoAccount, "r", trustEC2, allow("s3:*", "*"))
	creds, err := w.InstanceCredentials(t.Context(), demoAccount, "r", instanceA)
	if err != nil {
		t.Fatal(err)
	}
	session := w.identify(t, creds.AccessKeyID, creds.Token)
	for round, service := range []string{"s3", "ec2"} {
		w.clock.Advance(time.Hour)
		used := w.clock.Now()
		wantCode(t, w.Authorize(t.Context(), alice, service+":Get", nil, nil), "")
		wantCode(t, w.Authorize(t.Context(), session, "s3:Get", nil, nil), "")
		w.Close()
		w.Service = startService(t, w.config)
		w.clock.Advance(time.Minute)
		ctx := w.root(t, demoAccount)
		key := must(ctx, t, w.GetAccessKeyLastUsed, &iammodel.GetAccessKeyLastUsedInput{AccessKeyId: &alice.AccessKeyID})
		if last := key.AccessKeyLastUsed; *last.ServiceName != service || !model.Val(last.LastUsedDate).Equal(used) {
			t.Errorf("round %d: the key was last used for %s at %v, want %s at %v", round, *last.ServiceName,
				model.Val(last.LastUsedDate), service, used)
		}
		got := must(ctx, t, w.GetRole, &iammodel.GetRoleInput{RoleName: model.Ptr("r")}).Role
		if *got.Arn != role || !model.Val(got.RoleLastUsed.LastUsedDate).Equal(used) {
			t.Errorf("round %d: the role was last used at %v, want %v", round, got.RoleLastUsed.LastUsedDate, used)
		}
	}
}
