package operator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type backend struct {
	operator.Backend // nil: what no test asks for
	status           operator.Status
	err              error
	journal          *journal.Journal
	stop             context.CancelFunc
}

func (b *backend) Status(context.Context) (operator.Status, error) { return b.status, b.err }
func (b *backend) Credentials(context.Context) (operator.Credentials, error) {
	return operator.Credentials{AccessKeyID: "AKIA"}, nil
}
func (b *backend) NewNodeToken(context.Context) (string, error)    { return "token", nil }
func (b *backend) Follow(ctx context.Context) <-chan journal.Event { return b.journal.Follow(ctx) }
func (b *backend) Request(_ context.Context, id string) ([]journal.Event, error) {
	return b.journal.Request(id)
}
func (b *backend) Shutdown() { b.stop() }

func TestSocket(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	path := filepath.Join(t.TempDir(), "operator.sock")
	client := operator.NewClient(path)
	if _, err := client.Status(ctx); !errors.Is(err, operator.ErrNotRunning) {
		t.Fatalf("before Serve: %v, want ErrNotRunning", err)
	}
	log, err := journal.Open(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{journal: log, stop: cancel, status: operator.Status{PID: 7, Nodes: []operator.Node{{ID: "node-1"}}}}
	listener, err := operator.Listen(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- operator.Serve(ctx, listener, b) }()
	got, err := client.Status(ctx)
	if diff := cmp.Diff(b.status, got); err != nil || diff != "" {
		t.Errorf("status: %v (-want +got):\n%s", err, diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket's mode: %v, %v; want 0600", info, err)
	}
	if keys, err := client.Credentials(ctx); err != nil || keys.AccessKeyID != "AKIA" {
		t.Errorf("credentials %+v, %v", keys, err)
	}
	if token, err := client.NewNodeToken(ctx); err != nil || token != "token" {
		t.Errorf("token %q, %v", token, err)
	}
	log.Record(ctx, journal.Event{Kind: "one", Attributes: map[string]string{journal.RequestID: "a b"}})
	if events, err := client.Request(ctx, "a b"); err != nil || len(events) != 1 || events[0].Kind != "one" {
		t.Errorf("events of the request: %v, %v", events, err)
	}
	if events, err := client.Request(ctx, "none"); err != nil || len(events) != 0 {
		t.Errorf("events of no request: %v, %v", events, err)
	}
	var kinds []string
	if err := client.Follow(ctx, func(ev journal.Event) bool {
		kinds = append(kinds, ev.Kind)
		return false
	}); err != nil || cmp.Diff([]string{"one"}, kinds) != "" {
		t.Errorf("followed %v, %v", kinds, err)
	}
	b.err = errors.New("store is gone")
	if _, err := client.Status(ctx); err == nil || errors.Is(err, operator.ErrNotRunning) {
		t.Errorf("a fault came as %v", err)
	}
	if err := client.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
