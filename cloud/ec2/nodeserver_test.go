package ec2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// link is a node's open Sync.
type link struct {
	t      *testing.T
	stream nodelink.NodeLink_SyncClient
	cancel context.CancelFunc
}

func (c *cloud) sync(t *testing.T, client nodelink.NodeLinkClient, had ...*nodelink.InstanceStatus) (*link,
	*nodelink.Desired) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := client.Sync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{t: t, stream: stream, cancel: cancel}
	st := bigNode()
	l.send(&nodelink.Report{First: true, Instances: had, Node: &nodelink.NodeStatus{
		MemoryMbTotal: uint64(st.MemoryMBTotal), MemoryMbFree: uint64(st.MemoryMBFree), Cores: 2, Images: st.Images,
	}})
	snapshot := l.recv()
	if !snapshot.GetSnapshot() {
		t.Fatalf("the first message is no snapshot: %v", snapshot)
	}
	return l, snapshot
}

// A node may come while the service ends, and after it. The race detector sees work that begins when Close waited for
// all of it already; nothing here may order the two, so nobody waits for Close.
func TestNodeThatComesAfterCloseStartsNothing(t *testing.T) {
	c := start(t)
	client := c.dialAs(t, c.serve(t), c.addNode(t, "node-1", bigNode()))
	go c.Close()
	var err error
	for limit := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(limit); {
		err = comeAndGo(t, client)
	}
	if status.Code(err) != codes.Unavailable || !strings.Contains(fmt.Sprint(err), "shutting down") {
		t.Errorf("the connection ended with %v", err)
	}
	if _, err := c.WatchInstances(t.Context()); err == nil {
		t.Error("instances of a closed service can be watched")
	}
}

// comeAndGo opens a Sync and ends it at its first answer. It returns how the cloud ended it before that.
func comeAndGo(t *testing.T, client nodelink.NodeLinkClient) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := client.Sync(ctx)
	if err != nil {
		return err
	}
	first := &nodelink.Report{First: true, Node: &nodelink.NodeStatus{}}
	if err := stream.Send(first); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	return err
}

func (l *link) send(r *nodelink.Report) {
	l.t.Helper()
	if err := l.stream.Send(r); err != nil {
		l.t.Fatal(err)
	}
}

func (l *link) recv() *nodelink.Desired {
	l.t.Helper()
	d, err := l.stream.Recv()
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

func says(id, state string, stages ...string) *nodelink.InstanceStatus {
	out := &nodelink.InstanceStatus{InstanceId: id, State: state}
	for i, s := range stages {
		out.Milestones = append(out.Milestones, &nodelink.Milestone{
			Stage: s, UnixNanos: time.Now().UnixNano(), Attributes: map[string]string{"t": fmt.Sprint(i)},
		})
	}
	return out
}

func (c *cloud) wantState(t *testing.T, id string, want ec2.State) ec2.Instance {
	t.Helper()
	var inst ec2.Instance
	eventually(t, func() error {
		var err error
		if inst, err = c.Instance(context.Background(), id); err != nil {
			return err
		}
		if inst.State != want {
			return fmt.Errorf("%s is %s, want %s", id, inst.State, want)
		}
		return nil
	})
	return inst
}

func (c *cloud) events(kind string) (out []map[string]string) {
	for _, ev := range c.journal.Events() {
		if ev.Kind == kind {
			out = append(out, ev.Attributes)
		}
	}
	return out
}

func TestNodeLinkLife(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	before, err := c.Launch(t.Context(), ec2.Launch{
		AccountID: system, System: true, ImageName: "lbvm", UserData: keydelivery.WithKeyword(1,
			nil), InstanceProfileName: "app",
	})
	if err != nil {
		t.Fatal(err)
	}
	client := c.dialAs(t, c.serve(t), n)
	l, snapshot := c.sync(t, client)
	if len(snapshot.GetRun()) != 1 || snapshot.GetServices().GetApiUrl() == "" {
		t.Fatalf("snapshot %v", snapshot)
	}
	told := snapshot.GetRun()[0]
	if told.GetId() != before.ID || told.GetCredential().GetSealedKey() == "" || told.GetMac() == "" ||
		told.GetRoleName() != "app-role" ||
		told.GetImageDigest() != "sha256:aa" {
		t.Errorf("told %v", told)
	}

	ids := c.run(t, demo, "UserData="+b64("hello"))
	d := l.recv()
	if len(d.GetRun()) != 1 || d.GetRun()[0].GetId() != ids[0] || string(d.GetRun()[0].GetUserData()) != "hello" ||
		d.GetSnapshot() {
		t.Fatalf("delta %v", d)
	}

	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(before.ID, "running", "booted", "network")}})
	inst := c.wantState(t, before.ID, ec2.Running)
	// The guest's own word, and the word on another credential's medium, leave it where it is.
	again := says(before.ID, "running", "booted", "network", "medium-read")
	again.ConsolePath = "/console"
	wiped := func(reason, fingerprint string) *nodelink.Milestone {
		return &nodelink.Milestone{Stage: "medium-wiped", UnixNanos: time.Now().UnixNano(), Attributes: map[string]string{
			"source": "node", "reason": reason, "credential": fingerprint,
		}}
	}
	sum := told.GetCredential().Fingerprint()
	again.Milestones = append(again.Milestones, wiped("read", "0123"), wiped("replaced", sum))
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{again}})
	eventually(t, func() error {
		if inst, _ = c.Instance(t.Context(), before.ID); len(inst.Milestones) != 5 {
			return fmt.Errorf("%d milestones", len(inst.Milestones))
		}
		return nil
	})
	if inst.Credential == nil {
		t.Error("the credential is gone before its medium is")
	}
	again.Milestones = append(again.Milestones, wiped("read", sum))
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{again}})
	eventually(t, func() error {
		if inst, _ = c.Instance(t.Context(), before.ID); inst.Credential != nil || len(inst.Milestones) != 6 ||
			inst.ConsolePath != "/console" {
			return fmt.Errorf("credential %v, %d milestones, console %s", inst.Credential != nil, len(inst.Milestones),
				inst.ConsolePath)
		}
		return nil
	})
	// The journal is written after the record.
	eventually(t, func() error {
		if got := len(c.events("guest.milestone")); got != 6 {
			return fmt.Errorf("%d milestones in the journal, want 6", got)
		}
		return nil
	})

	if err := c.SetExposures(t.Context(), before.ID,
		[]ec2.Exposure{{HostAddress: "127.1.2.3:8443", GuestPort: 443}}); err != nil {
		t.Fatal(err)
	}
	if d = l.recv(); len(d.GetRun()) != 1 || d.GetRun()[0].GetExposures()[0].GetGuestPort() != 443 ||
		d.GetRun()[0].GetGeneration() <= told.GetGeneration() {
		t.Fatalf("exposure delta %v", d)
	}

	if err := c.Terminate(t.Context(), system, before.ID); err != nil {
		t.Fatal(err)
	}
	if d = l.recv(); len(d.GetRemove()) != 1 || d.GetRemove()[0] != before.ID {
		t.Fatalf("removal delta %v", d)
	}
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(before.ID, "stopped")}})
	inst = c.wantState(t, before.ID, ec2.Terminated)
	if inst.Reason.Code != "Client.UserInitiatedShutdown" || inst.PrivateIP != "" || len(inst.Exposures) != 0 {
		t.Errorf("ended as %+v", inst)
	}
	if err := c.SetExposures(t.Context(), before.ID, nil); !errors.Is(err, ec2.ErrNotFound) {
		t.Errorf("exposures of an ended instance: %v", err)
	}
	eventually(t, func() error {
		if load := c.placement.Nodes()[0].Load; load.Instances != 1 {
			return fmt.Errorf("reserved %+v", load)
		}
		return nil
	})
}

func TestGuestsThatEnd(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	ids := c.run(t, demo, "MinCount=4", "MaxCount=4")
	client := c.dialAs(t, c.serve(t), n)
	l, _ := c.sync(t, client)
	crashed := says(ids[1], "failed")
	crashed.Reason = "no sign of life"
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{
		says(ids[0], "running"), says(ids[2], "running"), crashed,
	}})
	inst := c.wantState(t, ids[1], ec2.Terminated)
	if inst.Reason.Code != "Server.InternalError" ||
		inst.Reason.Message != "the guest could not be started: no sign of life" {
		t.Errorf("reason %+v", inst.Reason)
	}
	if d := l.recv(); len(d.GetRemove()) != 1 || d.GetRemove()[0] != ids[1] {
		t.Errorf("the node is not told to forget the ended instance: %v", d)
	}
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(ids[0], "stopped")}})
	if inst = c.wantState(t, ids[0], ec2.Terminated); inst.Reason.Code != "Client.InstanceInitiatedShutdown" {
		t.Errorf("reason %+v", inst.Reason)
	}
	// Nothing that a node says moves an instance back.
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(ids[0], "running", "late")}})
	eventually(t, func() error {
		if inst, _ = c.Instance(t.Context(), ids[0]); len(inst.Milestones) != 1 {
			return errors.New("the late milestone is missing")
		}
		return nil
	})
	if inst.State != ec2.Terminated {
		t.Errorf("an ended instance is %s", inst.State)
	}
	// The node comes back without the one that ran, and has not heard of the one that is pending.
	l.cancel()
	_, snapshot := c.sync(t, client)
	if inst = c.wantState(t, ids[2], ec2.Terminated); inst.Reason.Code != "Server.InternalError" {
		t.Errorf("reason %+v", inst.Reason)
	}
	if len(snapshot.GetRun()) != 1 || snapshot.GetRun()[0].GetId() != ids[3] {
		t.Errorf("snapshot %v, want only the pending %s", snapshot.GetRun(), ids[3])
	}
	// Purged after an hour, all but what they took.
	c.clock.Add(61 * time.Minute)
	c.Sweep(t.Context())
	c.Sweep(t.Context()) // what is forgotten already counts no more
	used, err := c.Forgotten(t.Context())
	if err != nil || len(used) != 1 || used[demo].Instances != 3 || used[demo].LoadBalancerVMs != 0 {
		t.Errorf("three instances of %s were forgotten, not %+v; error %v", demo, used, err)
	}
	eventually(t, func() error {
		if n := len(c.Instances()); n != 1 {
			return fmt.Errorf("%d instances are left, want 1", n)
		}
		return nil
	})
}

func TestANewConnectionEndsTheOld(t *testing.T) {
	c := start(t)
	client := c.dialAs(t, c.serve(t), c.addNode(t, "node-1", bigNode()))
	old, _ := c.sync(t, client)
	_, _ = c.sync(t, client)
	if _, err := old.stream.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the old connection: %v, want Aborted", err)
	}
}

func TestWatchInstances(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	before := c.run(t, demo)
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := c.WatchInstances(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if first := <-watch; first.ID != before[0] {
		t.Errorf("first is %s, want %s", first.ID, before[0])
	}
	if err := c.Terminate(t.Context(), demo, before[0]); err != nil {
		t.Fatal(err)
	}
	for inst := range watch {
		if inst.ID == before[0] && inst.State == ec2.ShuttingDown {
			break
		}
	}
	cancel()
	for range watch {
	}
}

func TestInstancesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	var id string
	t.Run("first process", func(t *testing.T) {
		c := startOn(t, dir)
		c.addNode(t, "node-1", bigNode())
		id = c.run(t, demo)[0]
	})
	t.Run("second process", func(t *testing.T) {
		c := startOn(t, dir)
		inst, err := c.Instance(t.Context(), id)
		if err != nil || inst.NodeID != "node-1" || inst.State != ec2.Pending {
			t.Errorf("instance %+v, %v", inst, err)
		}
		if load := c.placement.Nodes()[0].Load; load.Instances != 1 {
			t.Errorf("reserved %+v", load)
		}
	})
}
