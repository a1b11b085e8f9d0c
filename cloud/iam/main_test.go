package iam_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	systemAccount = "000000000001"
	demoAccount   = "123456789012"
	otherAccount  = "210987654321"
)

// clock is a time that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a Service on a store of its own, with a system account and two users' accounts.
type world struct {
	*iam.Service
	store   *store.Store
	journal *journal.Journal
	log     *bytes.Buffer // read it only when nobody writes
	clock   *clock
	config  iam.Config
}

func newWorld(t testing.TB, options ...func(*iam.Config)) *world {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{store: st, log: &bytes.Buffer{}, clock: newClock()}
	w.journal = journal.New(w.log)
	w.config = iam.Config{
		Store: st, Journal: w.journal, RootKeyFile: filepath.Join(dir, "root.key"), Clock: w.clock.Now,
	}
	for _, o := range options {
		o(&w.config)
	}
	w.Service = startService(t, w.config)
	for id, name := range map[string]string{systemAccount: "system", demoAccount: "demo", otherAccount: "other"} {
		if _, err := w.EnsureAccount(t.Context(), id, name, id == systemAccount); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func startService(t testing.TB, cfg iam.Config) *iam.Service {
	t.Helper()
	s, err := iam.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// root returns a context whose caller is the account's root user.
func (w *world) root(t testing.TB, accountID string) context.Context {
	t.Helper()
	id, _, err := w.EnsureRootKey(t.Context(), accountID)
	if err != nil {
		t.Fatal(err)
	}
	return authn.WithCaller(t.Context(), w.identify(t, id, ""))
}

func (w *world) identify(t testing.TB, accessKeyID, token string) authn.Caller {
	t.Helper()
	_, c, err := w.Identify(t.Context(), accessKeyID, token)
	if err != nil {
		t.Fatalf("Identify %s: %v", accessKeyID, err)
	}
	c.RequestID = "req-1"
	return c
}

// user makes a user of the demo account with one inline policy, if any, and returns its caller.
func (w *world) user(t testing.TB, name, policy string) authn.Caller {
	t.Helper()
	ctx := w.root(t, demoAccount)
	must(ctx, t, w.CreateUser, &iammodel.CreateUserInput{UserName: &name})
	if policy != "" {
		must(ctx, t, w.PutUserPolicy, &iammodel.PutUserPolicyInput{
			UserName: &name, PolicyName: model.Ptr("p"), PolicyDocument: &policy,
		})
	}
	out := must(ctx, t, w.CreateAccessKey, &iammodel.CreateAccessKeyInput{UserName: &name})
	return w.identify(t, *out.AccessKey.AccessKeyId, "")
}

// must calls an operation and ends the test when it fails.
func must[I, O any](ctx context.Context, t testing.TB, op func(context.Context, *I) (*O, error), in *I) *O {
	t.Helper()
	out, err := op(ctx, in)
	if err != nil {
		t.Fatalf("%T: %v", in, err)
	}
	return out
}

// code returns the AWS error code of err, or its text when it has none.
func code(err error) string {
	if err == nil {
		return ""
	}
	var m *model.Error
	if errors.As(err, &m) {
		return m.Code
	}
	var a *authn.Error
	if errors.As(err, &a) {
		return string(a.Code)
	}
	return err.Error()
}

func wantCode(t testing.TB, err error, want string) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("error code %q (%v), want %q", got, err, want)
	}
}

const (
	allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	trustEC2 = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},` +
		`"Action":"sts:AssumeRole"}]}`
)

func allow(action, resource string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"` +
		resource + `"}]}`
}
