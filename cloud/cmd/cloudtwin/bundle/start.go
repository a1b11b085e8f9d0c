package bundle

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle/testkeys"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Start is what there was when the first event of a bundle happened that does not begin with its cloud: records, and
// the events before it that still counted then.
type Start struct {
	Records
	// Events tell, in order, how the cloud was set up, which nodes it had, which faults were active, and what guests
	// had gone through that did not serve yet.
	Events []journal.Event `json:"events"`
}

// Start returns the bundle's, nil when its events begin with its cloud, or it is of no cloud.
func (b *Bundle) Start() (*Start, error) {
	if !b.has(startFile) {
		return nil, nil //nolint:nilnil // it needs none, which is no error
	}
	text, err := b.read(startFile, maxRecords)
	if err != nil {
		return nil, err
	}
	start := &Start{}
	if err := json.Unmarshal(text, start); err != nil {
		return nil, fmt.Errorf("%w: its %s: %w", ErrNotBundle, startFile, err)
	}
	return start, nil
}

// beginning gathers what the events before the first one of a bundle tell of how things were then.
type beginning struct {
	over     bool // the first event of the bundle has come
	revision int64
	// first is the revision of the first write that the journal tells; before it nothing is known.
	first   int64
	whole   bool // the journal begins with the cloud
	events  int
	setup   *journal.Event
	nodes   map[string][]journal.Event
	faults  map[string]journal.Event
	booting map[string][]journal.Event // by guest, of those that do not serve yet
}

func newBeginning() *beginning {
	return &beginning{nodes: map[string][]journal.Event{}, faults: map[string]journal.Event{},
		booting: map[string][]journal.Event{}}
}

// see takes each event of the journal, in order; in says that it is the bundle's.
func (b *beginning) see(ev *journal.Event, in bool) {
	if b.events++; b.events == 1 {
		b.whole = ev.Seq <= 1
	}
	revision, _ := strconv.ParseInt(ev.Attributes["revision"], 10, 64)
	if ev.Kind == storeWrite && b.first == 0 {
		b.first = revision
	}
	b.over = b.over || in
	if b.over {
		return
	}
	if ev.Kind == storeWrite {
		b.revision = revision
	}
	b.learn(ev)
}

const storeWrite = "store.write"

func (b *beginning) learn(ev *journal.Event) {
	one := *ev
	switch {
	case ev.Kind == cloud.EventStarted:
		b.setup = &one
	case ev.Kind == "node.enrolled":
		b.nodes[ev.Subject] = []journal.Event{one}
	case ev.Kind == "node.removed":
		delete(b.nodes, ev.Subject)
	case (ev.Kind == "node.up" || ev.Kind == "node.connected") && len(b.nodes[ev.Subject]) > 0:
		of := slices.DeleteFunc(b.nodes[ev.Subject], func(o journal.Event) bool { return o.Kind == ev.Kind })
		b.nodes[ev.Subject] = append(of, one)
	case ev.Kind == "fault.began":
		b.faults[ev.Attributes["fault"]] = one
	case ev.Kind == "fault.ended":
		delete(b.faults, ev.Attributes["fault"])
	default:
		b.learnGuest(&one)
	}
}

// learnGuest keeps what a guest went through until it serves or ends.
func (b *beginning) learnGuest(ev *journal.Event) {
	id := cmp.Or(ev.Attributes["instance"], ev.Subject)
	if !strings.HasPrefix(id, "i-") {
		return
	}
	state := ev.Attributes["state"]
	switch {
	case ev.Kind == "instance.state" && state == "pending":
		b.booting[id] = []journal.Event{*ev}
	case len(b.booting[id]) == 0:
	case ev.Kind == "instance.state" && state != "running", ev.Attributes["stage"] == "serving":
		delete(b.booting, id)
	case ev.Kind == "instance.state", ev.Kind == "guest.milestone", ev.Kind == "elb.lbvm_launched",
		strings.HasPrefix(ev.Kind, "delivery."):
		b.booting[id] = append(b.booting[id], *ev)
	}
}

// list is what it gathered, in order.
func (b *beginning) list() []journal.Event {
	var out []journal.Event
	if b.setup != nil {
		out = append(out, *b.setup)
	}
	for _, of := range b.nodes {
		out = append(out, of...)
	}
	for _, of := range b.booting {
		out = append(out, of...)
	}
	out = slices.AppendSeq(out, maps.Values(b.faults))
	slices.SortFunc(out, func(a, b journal.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

// at is the revision of the records before the bundle's first event; 0 when nothing is known of it.
func (b *beginning) at() int64 {
	if b.revision > 0 {
		return b.revision
	}
	return max(b.first-1, 0)
}

// start writes what there was before the bundle's first event. The records are those of that moment; when the store has
// forgotten it, those of now that were there already.
//
// Of a bundle of one guest or load balancer the events leave out most of what was done. What that came to is taken from
// the records of now: certificates, users and roles, and the instances behind the load balancer.
func (s *stage) start(ctx context.Context) error {
	b := s.beginning
	if s.src.Records == nil || b == nil || s.src.Selection.All() && b.whole {
		return nil
	}
	seed, replacer, err := s.learn(ctx)
	if err != nil {
		return fmt.Errorf("replace the keys in the records: %w", err)
	}
	f, err := s.create(startFile)
	if err != nil {
		return err
	}
	w := &recordWriter{out: bufio.NewWriter(f)}
	w.head(seed)
	notes, err := s.startRecords(ctx, w, replacer)
	return errors.Join(err, w.end(notes, b.list()), f.Close())
}

func (s *stage) startRecords(ctx context.Context, w *recordWriter, replacer *testkeys.Replacer) ([]string, error) {
	at, written := s.beginning.at(), map[string]bool{}
	take := func(raw *store.Raw) error {
		if written[raw.Key] || !s.startWants(raw) {
			return nil
		}
		written[raw.Key] = true
		return s.record(w, raw, replacer)
	}
	notes := []string{"records as they were at revision " + strconv.FormatInt(at, 10)}
	exact := func(raw store.Raw) error { return take(&raw) }
	err := error(nil)
	if at > 0 {
		err = s.src.Records.DumpAt(ctx, at, exact)
	}
	if errors.Is(err, store.ErrForgotten) {
		notes = []string{"the store has forgotten its records at revision " + strconv.FormatInt(at, 10) +
			": those of the end that were there already take their place"}
		err = s.src.Records.Dump(ctx, func(raw store.Raw) error {
			if raw.Created > at {
				return nil
			}
			return take(&raw)
		})
	}
	if err == nil && s.ofOne() {
		err = s.src.Records.Dump(ctx, func(raw store.Raw) error {
			if s.made[raw.Key] || strings.HasPrefix(raw.Key, "elb-") {
				return nil
			}
			return take(&raw)
		})
	}
	return append(notes, replacer.Notes()...), err
}

// ofOne says whether the bundle is of one guest or load balancer.
func (s *stage) ofOne() bool { return s.src.Selection.VM != "" || s.src.Selection.LoadBalancer != "" }

// startWants leaves out what was not selected, what each cloud has of its own, and root keys on tokens.
func (s *stage) startWants(raw *store.Raw) bool {
	for _, table := range []string{wrappedTable, "placement-loads/", "placement-presence/", "placement-tokens/"} {
		if strings.HasPrefix(raw.Key, table) {
			return false
		}
	}
	return s.wantsRecord(raw)
}

// learnMade notes the records that the calls of the bundle wrote: those are not there before.
func (s *stage) learnMade(calls map[string]bool) error {
	s.made = map[string]bool{}
	return journal.Read(s.src.State.Journal(), func(ev journal.Event) {
		if ev.Kind != storeWrite || !calls[ev.Trace] {
			return
		}
		s.made[ev.Subject] = true
		for record := range strings.FieldsSeq(ev.Attributes["with"]) {
			s.made[record] = true
		}
	})
}

// learnBackends notes the instances behind the load balancers that are wanted: without them they are not the same.
func (s *stage) learnBackends(ctx context.Context) error {
	if s.src.Records == nil || !s.ofOne() {
		return nil
	}
	var all Topology
	take := func(raw store.Raw) error {
		if strings.HasPrefix(raw.Key, balancerTable) {
			all.learnBalancer(raw.Value)
		}
		return nil
	}
	err := s.src.Records.Dump(ctx, take)
	if at := s.beginning.at(); at > 0 && err == nil {
		err = s.src.Records.DumpAt(ctx, at, take)
	}
	if errors.Is(err, store.ErrForgotten) {
		err = nil
	}
	for _, lb := range all.LoadBalancers {
		if s.balancers[strings.ToLower(lb.Name)] {
			for _, id := range lb.Backends {
				s.beside[id] = true
			}
		}
	}
	return err
}

// namedInstances are the instances that a request's parameters name.
var namedInstances = regexp.MustCompile(`\bi-[0-9a-f]{8,17}\b`)

// wantsBeside says whether a bundle of one guest or load balancer has an event that names neither: of what all guests
// live with, and of calls about the load balancer that a guest serves.
func (s *stage) wantsBeside(ev *journal.Event) bool {
	if !s.beginning.over || !s.ofOne() {
		return false
	}
	switch ev.Kind {
	case "api.request":
		form, err := url.ParseQuery(ev.Attributes["params"])
		return err == nil && ev.Attributes["instance"] == "" && s.balancers[strings.ToLower(form.Get("LoadBalancerName"))]
	case cloud.EventStarted, "fault.began", "fault.ended", "node.enrolled", "node.removed", "node.up", "node.connected",
		"node.disconnected":
		return true
	}
	return false
}
