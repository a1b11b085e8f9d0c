package play_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// dial serves a world to a node that is called node-1 and returns its stream, on which it has said what it can do.
func dial(t *testing.T, w *world, kinds ...string) nodelink.NodeFaults_PlayClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	nodelink.RegisterNodeFaultsServer(server, w.Server(func(ctx context.Context) (context.Context, string, error) {
		return ctx, "node-1", nil
	}))
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = conn.Close(); server.Stop() })
	stream, err := nodelink.NewNodeFaultsClient(conn).Play(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&nodelink.FaultReport{Kinds: kinds, Driver: "sim"}); err != nil {
		t.Fatal(err)
	}
	if err := w.AwaitNode(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	return stream
}

// follow answers orders until they hold n faults, and returns their ids.
func follow(t *testing.T, stream nodelink.NodeFaults_PlayClient, n int) (ids []string) {
	t.Helper()
	for {
		orders, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&nodelink.FaultReport{Followed: orders.GetRevision()}); err != nil {
			t.Fatal(err)
		}
		if len(orders.GetFaults()) == n {
			for _, f := range orders.GetFaults() {
				ids = append(ids, f.GetId())
			}
			return ids
		}
	}
}

// TestNodesAreTold has a node told of faults that begin, are cleared, and are only the cloud's.
func TestNodesAreTold(t *testing.T) {
	w := newWorld(t)
	stream := dial(t, w, string(fault.WireLoss), string(fault.GuestKill))
	done := make(chan error, 1)
	add := func(f fault.Fault) { go func() { _, err := w.Add(t.Context(), f); done <- err }() }
	steps := []struct {
		name string
		do   func()
		want int
	}{
		{"one", func() { add(fault.Fault{ID: "a", Kind: fault.WireLoss}) }, 1},
		{"another", func() { add(fault.Fault{ID: "b", Kind: fault.WireLoss, Target: "lb:x"}) }, 2},
		{"cleared", func() { go func() { done <- w.Clear(t.Context(), "a") }() }, 1},
		{"a moment", func() { add(fault.Fault{ID: "c", Kind: fault.GuestKill}) }, 2},
	}
	for _, s := range steps {
		s.do()
		follow(t, stream, s.want)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if err := stream.Send(&nodelink.FaultReport{Outcomes: []*nodelink.FaultOutcome{
		{FaultId: "c", InstanceId: "i-1", Outcome: nodelink.FaultApplied},
		{FaultId: "c", InstanceId: "i-2", Outcome: nodelink.FaultRefused, Detail: "why"}}}); err != nil {
		t.Fatal(err)
	}
	// Another fault's orders come after the report was heard of.
	add(fault.Fault{ID: "d", Kind: fault.WireLoss})
	follow(t, stream, 3)
	<-done
	for _, s := range w.List() {
		if s.ID == "c" && (s.Applied != 1 || s.Refused != 1 || s.Why != "why") {
			t.Errorf("outcomes: %+v", s)
		}
	}
	unsupported, ok := errors.AsType[*play.UnsupportedError](w.Load(t.Context(), fault.Schedule{Version: 1,
		Faults: []fault.Fault{{ID: "e", Kind: fault.GuestPanic}}}))
	if !ok || unsupported.Kind != fault.GuestPanic || unsupported.Driver != "sim" {
		t.Errorf("a kind that no node can do: %v", unsupported)
	}
}
