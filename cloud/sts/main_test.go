package sts_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/cloud/sts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	home  = "123456789012"
	other = "210987654321"
)

type world struct {
	*sts.Service
	iam *iam.Service
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	i, err := iam.New(t.Context(), iam.Config{
		Store: st, RootKeyFile: filepath.Join(dir, "root.key"), Clock: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	for _, id := range []string{home, other} {
		if _, err := i.EnsureAccount(t.Context(), id, id, false); err != nil {
			t.Fatal(err)
		}
	}
	return &world{Service: sts.New(i, sts.WithClock(now)), iam: i}
}

func (w *world) root(t *testing.T, account string) context.Context {
	t.Helper()
	id, _, err := w.iam.EnsureRootKey(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	return w.as(t, id, "")
}

func (w *world) as(t *testing.T, id, token string) context.Context {
	t.Helper()
	_, c, err := w.iam.Identify(t.Context(), id, token)
	if err != nil {
		t.Fatal(err)
	}
	return authn.WithCaller(t.Context(), c)
}

func (w *world) user(t *testing.T, account, name, policy string) context.Context {
	t.Helper()
	ctx := w.root(t, account)
	if _, err := w.iam.CreateUser(ctx, &iammodel.CreateUserInput{UserName: &name}); err != nil {
		t.Fatal(err)
	}
	if policy != "" {
		if _, err := w.iam.PutUserPolicy(ctx, &iammodel.PutUserPolicyInput{
			UserName: &name, PolicyName: model.Ptr("p"), PolicyDocument: &policy,
		}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := w.iam.CreateAccessKey(ctx, &iammodel.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		t.Fatal(err)
	}
	return w.as(t, *out.AccessKey.AccessKeyId, "")
}

func (w *world) role(t *testing.T, name, trust string) string {
	t.Helper()
	out, err := w.iam.CreateRole(w.root(t, home), &iammodel.CreateRoleInput{
		RoleName: &name, AssumeRolePolicyDocument: &trust, MaxSessionDuration: model.Ptr(int64(7200)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Role.Arn
}

func statement(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }

func trust(principal, condition string) string {
	return statement(`{"Effect":"Allow","Principal":` + principal + `,"Action":"sts:AssumeRole"` + condition + `}`)
}

const mayAssume = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`

func code(err error) string {
	var m *model.Error
	if errors.As(err, &m) {
		return m.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
