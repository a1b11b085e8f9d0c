package operator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// lbvms answers for two instances: i-1 is an LBVM, and i-2 breaks the cloud.
type lbvms struct {
	operator.Backend
	revoked, reason, by, renewed string
}

func (b *lbvms) RevokeLBVM(ctx context.Context, id, reason string) (operator.Instance, error) {
	if err := known(id); err != nil {
		return operator.Instance{}, err
	}
	b.revoked, b.reason, b.by = id, reason, operator.PeerFrom(ctx)
	return operator.Instance{ID: id, State: "shutting-down"}, nil
}

func (b *lbvms) RenewLBVM(_ context.Context, id string) (operator.Instance, error) {
	b.renewed = id
	return operator.Instance{ID: id}, known(id)
}

func known(id string) error {
	switch id {
	case "i-1":
		return nil
	case "i-2":
		return errors.New("the store is out of reach")
	}
	return &operator.Refusal{Message: "no such instance"}
}

// serve answers for a backend until the test ends, and returns a client of it.
func serve(t *testing.T, b operator.Backend) *operator.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	path := filepath.Join(t.TempDir(), "operator.sock")
	listener, err := operator.Listen(ctx, path)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- operator.Serve(ctx, listener, b) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return operator.NewClient(path)
}

func TestLBVMs(t *testing.T) {
	ctx, b := t.Context(), &lbvms{}
	client := serve(t, b)

	const why = "a & b = ü, 100%"
	instance, err := client.RevokeLBVM(ctx, "i-1", why)
	if err != nil || instance.State != "shutting-down" || b.revoked != "i-1" || b.reason != why {
		t.Errorf("revoked %q because %q: %+v, %v", b.revoked, b.reason, instance, err)
	}
	if want := "uid " + strconv.Itoa(os.Getuid()); b.by != want && !strings.HasPrefix(b.by, want+" (") {
		t.Errorf("asked by %q, want %q", b.by, want)
	}
	if instance, err := client.RenewLBVM(ctx, "i-1"); err != nil || instance.ID != "i-1" || b.renewed != "i-1" {
		t.Errorf("renewed %q: %+v, %v", b.renewed, instance, err)
	}
	for _, ask := range []func(string) error{
		func(id string) error { _, err := client.RevokeLBVM(ctx, id, why); return err },
		func(id string) error { _, err := client.RenewLBVM(ctx, id); return err },
	} {
		if refusal, ok := errors.AsType[*operator.Refusal](ask("i-3")); !ok || refusal.Message != "no such instance" {
			t.Errorf("a mistake of the operator's came as %v", ask("i-3"))
		}
		if err := ask("i-2"); err == nil || errors.As(err, new(*operator.Refusal)) {
			t.Errorf("a fault of the cloud's came as %v", err)
		}
	}
	if operator.PeerFrom(ctx) != "unknown" {
		t.Error("somebody asks outside the socket")
	}
}
