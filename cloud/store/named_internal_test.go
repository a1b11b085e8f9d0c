package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestNamed(t *testing.T) {
	other := errors.New("other")
	for _, tc := range []struct {
		name      string
		err, want error // nil: none of this package's
	}{
		{"nothing", nil, nil},
		{"no leader", rpctypes.ErrNoLeader, ErrUnreachable},
		{"another leader", ErrLeaderLost, ErrUnreachable},
		{"too late for the cluster", rpctypes.ErrTimeout, ErrUnreachable},
		{"the server ends", rpctypes.ErrStopped, ErrUnreachable},
		{"no server", status.Error(codes.Unavailable, "connection refused"), ErrUnreachable},
		{"said more about", fmt.Errorf("read: %w", rpctypes.ErrNoLeader), ErrUnreachable},
		{"named before", fmt.Errorf("read: %w", ErrUnreachable), ErrUnreachable},
		{"no space", rpctypes.ErrNoSpace, ErrFull},
		{"too late for the caller", context.DeadlineExceeded, nil},
		{"compacted", rpctypes.ErrCompacted, nil},
		{"not permitted", status.Error(codes.PermissionDenied, "no"), nil},
		{"something else", other, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := named(tc.err)
			if !errors.Is(got, tc.err) {
				t.Errorf("%v has lost its cause, %v", got, tc.err)
			}
			for _, name := range []error{ErrUnreachable, ErrFull} {
				if errors.Is(got, name) != errors.Is(tc.want, name) {
					t.Errorf("got %v, want %v", got, tc.want)
				}
			}
		})
	}
}

// TestEtcdHasNoLeader asks an etcd that says so to every question.
func TestEtcdHasNoLeader(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:1"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{client: client}
	t.Cleanup(func() { _ = s.Close() })
	troubled(client, func(context.Context, bool) (bool, error) { return false, rpctypes.ErrNoLeader })
	table := NewTable[int](s, "numbers")
	for name, ask := range map[string]func() error{
		"put":    func() error { return table.Put(t.Context(), "a", 1) },
		"create": func() error { return table.Create(t.Context(), "a", 1) },
		"delete": func() error { return table.Delete(t.Context(), "a") },
		"get": func() error {
			_, err := table.Get(t.Context(), "a")
			return err
		},
		"read in a transaction": func() error {
			return s.Txn(t.Context(), func(tx *Tx) error {
				_, err := table.In(tx).Get("a")
				return err
			})
		},
		"transaction": func() error {
			return s.Txn(t.Context(), func(tx *Tx) error { return table.In(tx).Put("a", 1) })
		},
		"dump":    func() error { return s.Dump(t.Context(), func(Raw) error { return nil }) },
		"restore": func() error { return s.Restore(t.Context(), []Raw{{Key: "numbers/a"}}) },
	} {
		if err := ask(); !errors.Is(err, ErrUnreachable) || !errors.Is(err, rpctypes.ErrNoLeader) {
			t.Errorf("%s: %v, want ErrUnreachable and its cause", name, err)
		}
	}
}
