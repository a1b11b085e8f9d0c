package bundle

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/events"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// scene is a cloud's journal and store, whose events are a second apart.
type scene struct {
	t     *testing.T
	state local.Layout
	j     *journal.Journal
	store *store.Store
	begun time.Time
	n     int
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, state: local.Layout(t.TempDir()), begun: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)}
	var err error
	if s.j, err = journal.Open(s.state.Journal()); err != nil {
		t.Fatal(err)
	}
	s.store = openStore(t, t.TempDir())
	ca := []byte(`{"CertificateDER":"YQ=="}`)
	if err := s.store.Restore(t.Context(), []store.Raw{{Key: "placement-ca/ca", Value: ca}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scene) now() time.Time { return s.begun.Add(time.Duration(s.n) * time.Second) }

func (s *scene) event(kind, subject string, attributes ...string) {
	s.t.Helper()
	ev := journal.Event{Time: s.now(), Kind: kind, Subject: subject, Attributes: map[string]string{}}
	for i := 0; i < len(attributes); i += 2 {
		ev.Attributes[attributes[i]] = attributes[i+1]
	}
	s.j.Record(journal.Begin(s.t.Context()), ev)
	s.n++
}

// write writes a record and tells of it, as a part of a call if made is set.
func (s *scene) write(key, value string, call ...string) {
	s.t.Helper()
	if err := s.store.Restore(s.t.Context(), []store.Raw{{Key: key, Value: []byte(value)}}); err != nil {
		s.t.Fatal(err)
	}
	revision := int64(0)
	if err := s.store.Dump(s.t.Context(), func(r store.Raw) error {
		revision = max(revision, r.Revision)
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	ctx := journal.Begin(s.t.Context())
	attributes := map[string]string{"revision": strconv.FormatInt(revision, 10)}
	s.j.Record(ctx, journal.Event{Time: s.now(), Kind: storeWrite, Subject: key, Attributes: attributes})
	if len(call) > 0 {
		s.j.Record(ctx, journal.Event{Time: s.now(), Kind: "api.request", Subject: call[0],
			Attributes: map[string]string{"params": call[1], "status": "200"}})
	}
	s.n++
}

// start makes a bundle and returns its start's records by key, and its events' subjects.
func (s *scene) start(selection events.Selection) (records map[string]string, subjects []string) {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "b.zip")
	source := Source{State: s.state, Selection: selection, Records: s.store}
	if _, err := Write(s.t.Context(), path, source, nil); err != nil {
		s.t.Fatal(err)
	}
	b, err := Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	start, err := b.Start()
	if err != nil {
		s.t.Fatal(err)
	}
	if start == nil {
		return nil, nil
	}
	records = map[string]string{}
	for _, r := range start.Records.Records {
		var value struct{ V string }
		if err := json.Unmarshal(r.Value, &value); err != nil {
			s.t.Fatal(err)
		}
		records[r.Key] = value.V
	}
	delete(records, "placement-ca/ca")
	for _, ev := range start.Events {
		subjects = append(subjects, ev.Kind+" "+ev.Subject)
	}
	return records, subjects
}

func TestStart(t *testing.T) {
	const shop, other = "LoadBalancerName=shop", "LoadBalancerName=other"
	backend, vm := "i-0000000000000000b", "i-0000000000000000c"
	s := newScene(t)
	s.event(cloud.EventStarted, "us-east-1")
	s.event("node.enrolled", "node-1")
	s.event("node.enrolled", "node-2")
	s.event("node.up", "node-1", "memoryMB", "2048")
	s.event("node.removed", "node-2")
	s.write("iam-users/ann", `{"V":"first"}`, "iam:CreateUser", "UserName=ann")
	s.write("ec2-instances/"+backend, `{"ID":"`+backend+`","V":"runs"}`, "ec2:RunInstances", "")
	s.event("instance.state", backend, "state", "pending")
	s.event("guest.milestone", backend, "stage", "serving")
	s.event("fault.began", "x", "fault", "f1")
	s.event("fault.began", "x", "fault", "f2")
	s.event("fault.ended", "x", "fault", "f1")
	s.event("instance.state", vm, "state", "pending")
	s.event("guest.milestone", vm, "stage", "booted")
	since := s.now()
	s.write("elb-load-balancers/a/shop", `{"Name":"shop","V":"new","Backends":["`+backend+`"]}`,
		"elasticloadbalancing:CreateLoadBalancer", shop)
	s.write("iam-users/ann", `{"V":"second"}`, "iam:UpdateUser", "UserName=ann")
	s.write("iam-server-certificates/a/late", `{"V":"late"}`, "iam:UploadServerCertificate", "ServerCertificateName=late")
	s.write("elb-load-balancers/a/other", `{"Name":"other","V":"new"}`, "elasticloadbalancing:CreateLoadBalancer", other)
	s.write("iam-roles/shop", `{"V":"made"}`, "elasticloadbalancing:AddTags", shop)
	if err := s.j.Close(); err != nil {
		t.Fatal(err)
	}
	context := []string{"cloud.started us-east-1", "node.enrolled node-1", "node.up node-1", "fault.began x",
		"instance.state " + vm, "guest.milestone " + vm}
	before := map[string]string{"iam-users/ann": "first", "ec2-instances/" + backend: "runs"}
	for name, c := range map[string]struct {
		selection events.Selection
		records   map[string]string
		events    []string
	}{
		"of all":          {events.Selection{}, nil, nil},
		"since a time":    {events.Selection{Since: since}, before, context},
		"since the start": {events.Selection{Since: s.begun}, map[string]string{}, nil},
		"of a load balancer": {events.Selection{LoadBalancer: "shop"}, map[string]string{"iam-users/ann": "first",
			"ec2-instances/" + backend: "runs", "iam-server-certificates/a/late": "late"}, context},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			records, subjects := s.start(c.selection)
			if diff := cmp.Diff(c.records, records); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.events, subjects); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
