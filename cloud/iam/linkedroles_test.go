package iam_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestLinkedRoleInUse: a role that its service uses stays, and the task that was to delete it tells why.
func TestLinkedRoleInUse(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	used := []string{"arn:aws:elasticloadbalancing:us-east-1:" + demoAccount + ":loadbalancer/web"}
	w.SetLinkedRoleUse(func(_ context.Context, accountID string) ([]string, error) {
		if accountID != demoAccount {
			t.Errorf("asked about %s", accountID)
		}
		return used, nil
	})
	role := must(ctx, t, w.CreateServiceLinkedRole, &iammodel.CreateServiceLinkedRoleInput{
		AWSServiceName: model.Ptr("elasticloadbalancing.amazonaws.com")}).Role
	remove := func() *iammodel.GetServiceLinkedRoleDeletionStatusOutput {
		out := must(ctx, t, w.DeleteServiceLinkedRole, &iammodel.DeleteServiceLinkedRoleInput{RoleName: role.RoleName})
		return must(ctx, t, w.GetServiceLinkedRoleDeletionStatus, &iammodel.GetServiceLinkedRoleDeletionStatusInput{
			DeletionTaskId: out.DeletionTaskId})
	}
	status := remove()
	if *status.Status != "FAILED" || status.Reason == nil {
		t.Fatalf("status of a role in use: %s", *status.Status)
	}
	if diff := cmp.Diff(used, status.Reason.RoleUsageList[0].Resources); diff != "" {
		t.Errorf("used by (-want +got):\n%s", diff)
	}
	must(ctx, t, w.GetRole, &iammodel.GetRoleInput{RoleName: role.RoleName})
	used = nil
	if status = remove(); *status.Status != "SUCCEEDED" || status.Reason != nil {
		t.Errorf("status of a role that nothing uses: %s", *status.Status)
	}
	_, err := w.GetRole(ctx, &iammodel.GetRoleInput{RoleName: role.RoleName})
	wantCode(t, err, "NoSuchEntity")
}
