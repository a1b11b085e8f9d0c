package replay

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/node"
)

// ErrRecording means that a bundle cannot be played: it does not tell everything from its cloud's beginning.
var ErrRecording = errors.New("the recording cannot be played")

// Recording is what a bundle tells of a cloud.
type Recording struct {
	// Began and Ended are when the first and the last event was.
	Began, Ended time.Time
	// Guests is how most guests came to life; empty when there were none.
	Guests node.GuestMode
	// Nodes are those that were there before the first step.
	Nodes []Node
	// Steps are what was done to the cloud, in order.
	Steps []Step
	// Setup is how the cloud was started, as it told; empty when it was an older one that did not.
	Setup map[string]string
	// Before is what there was before the first event; nil when that is the cloud's own start.
	Before *Before

	trace *trace
	all   []journal.Event // that count for a comparison or are steps
}

// Node is a node of the recording.
type Node struct {
	ID string
	// MemoryMB and Cores are what it offered; zero when that is not known.
	MemoryMB, Cores int
}

// Step is one thing that was done to the cloud; one of its pointers is set.
type Step struct {
	Seq        uint64 // of its event
	Begin, End time.Time
	Call       *Call
	Began      *fault.Fault // a fault that began
	Cleared    string       // the id of one that ended
	Node       *Node        // one that joined
	Removed    string       // the id of one that was removed
	Killed     string       // the id of one whose process ended
	Revived    string       // the id of one whose process started again
	Restart    *Restart
	Operated   *Operated
}

// Call is a request to the API by somebody outside of the cloud.
type Call struct {
	Number      int    // from 1
	Action      string // iam:CreateUser, or what was asked for where there is no such operation
	Caller      string // ARN, empty when it was refused before that was known
	AccessKeyID string
	UserAgent   string
	Parameters  url.Values
	Cut         bool // the longest parameters were not recorded
	UserData    int  // bytes
	Status      int
	Code        string
	Message     string
	Made        []string
}

// Read makes steps of a bundle's events. The error is ErrRecording when they do not begin with the cloud and nothing
// tells what there was before.
func Read(b *bundle.Bundle) (*Recording, error) {
	status, err := b.Status()
	if err != nil {
		return nil, err
	}
	start, err := b.Start()
	if err != nil {
		return nil, err
	}
	if s := b.Manifest.Selected; len(s) > 0 && start == nil {
		return nil, fmt.Errorf("%w: its bundle was made with --%s, which left events out, and does not tell what was "+
			"there before, as bundles of a cloud do; make one without", ErrRecording, slices.Sorted(maps.Keys(s))[0])
	}
	var events []journal.Event
	if err := b.Events(func(ev *journal.Event) error {
		if len(events) == 0 && ev.Seq > 1 && start == nil {
			return fmt.Errorf("%w: its first event has the number %d; what was before has left the journal, which keeps so "+
				"much and no more", ErrRecording, ev.Seq)
		}
		if len(events) == 0 || counts(ev.Kind) {
			events = append(events, *ev)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	before, err := readBefore(start)
	if err != nil {
		return nil, err
	}
	return newRecording(events, status, before)
}

// counts says whether a recording needs an event of the kind.
func counts(kind string) bool {
	switch kind {
	case cloud.EventStarted, cloud.EventAccountCreated, cloud.EventKeysGiven, operator.EventChange, "api.request",
		"elb.lbvm_launched", "guest.milestone", "instance.state", "metadata.request", "invariant.broken":
		return true
	}
	return strings.HasPrefix(kind, "delivery.") || strings.HasPrefix(kind, "fault.") || strings.HasPrefix(kind, "node.")
}

func newRecording(events []journal.Event, status *operator.Status, before *Before) (*Recording, error) {
	if len(events) == 0 {
		return nil, fmt.Errorf("%w: it has no events", ErrRecording)
	}
	r := &Recording{Began: events[0].Time, Ended: events[len(events)-1].Time, trace: newTrace(), all: events}
	if events[0].Kind == cloud.EventStarted {
		r.Setup = events[0].Attributes
	}
	ways := map[string]int{}
	sizes := nodeSizes(events, status)
	restarts := restartsIn(before, events)
	if before != nil {
		r.learnBefore(before)
	}
	calls, late := 0, lateWords{began: map[string]time.Time{}}
	for i := range events {
		ev := &events[i]
		step, err := stepOf(ev, sizes)
		if err != nil {
			return nil, err
		}
		if again := restarts[ev.Seq]; again != nil { // of what no event tells by itself
			step = again
		}
		if step != nil && step.Call != nil {
			calls++
			step.Call.Number = calls
			r.trace.names.learnCall(calls, step.Call.Made)
		}
		switch {
		case step == nil:
		case step.Node != nil && len(r.Steps) == 0 && before == nil:
			r.Nodes = append(r.Nodes, *step.Node)
		default:
			r.Steps = append(r.Steps, *step)
		}
		if ev.Attributes["stage"] == "machine-started" {
			ways[ev.Attributes["guests"]]++
		}
		r.trace.add(late.of(ev, step))
	}
	r.trace.finish()
	r.Guests = commonest(ways)
	return r, nil
}

// commonest is how most guests were started. A copy that was kept ready is one of a template.
func commonest(ways map[string]int) node.GuestMode {
	ways[string(node.GuestsFork)] += ways["pooled"]
	delete(ways, "pooled")
	best := ""
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		if ways[way] > ways[best] {
			best = way
		}
	}
	return node.GuestMode(best)
}

func nodeSizes(events []journal.Event, status *operator.Status) map[string]Node {
	sizes := map[string]Node{}
	if status != nil {
		for _, n := range status.Nodes {
			sizes[n.ID] = Node{ID: n.ID, MemoryMB: int(min(n.MemoryMB, 1<<30))}
		}
	}
	for i := range events {
		ev := &events[i]
		if memory, err := strconv.Atoi(ev.Attributes["memoryMB"]); ev.Kind == "node.up" && err == nil {
			cores, _ := strconv.Atoi(ev.Attributes["cores"])
			sizes[ev.Subject] = Node{ID: ev.Subject, MemoryMB: memory, Cores: cores}
		}
	}
	return sizes
}

// stepOf is what an event says was done to the cloud from outside; nil when it does not.
func stepOf(ev *journal.Event, sizes map[string]Node) (*Step, error) {
	step := &Step{Seq: ev.Seq, Begin: beginOf(ev), End: ev.Time}
	switch ev.Kind {
	case "api.request":
		if ev.Attributes["instance"] != "" {
			return nil, nil //nolint:nilnil // a guest's own call
		}
		call, err := callOf(ev)
		if err != nil {
			return nil, err
		}
		step.Call = call
	case "fault.began":
		f, err := faultOf(ev)
		if err != nil {
			return nil, err
		}
		step.Began = f
	case "fault.ended":
		step.Cleared = ev.Attributes["fault"]
	case "node.enrolled":
		n := sizes[ev.Subject]
		n.ID = ev.Subject
		step.Node = &n
	case "node.removed":
		step.Removed = ev.Subject
	case cloud.EventAccountCreated, cloud.EventKeysGiven, operator.EventChange:
		return operatedOf(ev, step)
	default:
		return nil, nil //nolint:nilnil // something that the cloud did by itself
	}
	return step, nil
}

// beginOf is when what an event tells began: events are recorded at the end, and some say how long it took.
func beginOf(ev *journal.Event) time.Time {
	ms, err := strconv.ParseFloat(ev.Attributes["durationMs"], 64)
	if err != nil {
		return ev.Time
	}
	return ev.Time.Add(-time.Duration(ms * float64(time.Millisecond)))
}

func callOf(ev *journal.Event) (*Call, error) {
	a := ev.Attributes
	parameters, err := url.ParseQuery(a["params"])
	if err != nil {
		return nil, fmt.Errorf("%w: the parameters of event %d: %w", ErrRecording, ev.Seq, err)
	}
	status, err := strconv.Atoi(a["status"])
	if err != nil {
		return nil, fmt.Errorf("%w: the status of event %d: %w", ErrRecording, ev.Seq, err)
	}
	userData, _ := strconv.Atoi(a["userDataBytes"])
	return &Call{Action: ev.Subject, Caller: a["caller"], AccessKeyID: a["accessKeyId"], UserAgent: a["userAgent"],
		Parameters: parameters, Cut: a["paramsCut"] != "", UserData: userData, Status: status, Code: a["code"],
		Message: a["message"], Made: strings.Fields(a["made"])}, nil
}

// faultOf is the fault that an event says began. How long it lasts the recording tells by another event.
func faultOf(ev *journal.Event) (*fault.Fault, error) {
	a := ev.Attributes
	f := &fault.Fault{ID: a["fault"], Kind: fault.Kind(a["kind"]), Target: a["target"]}
	if rate := a["rate"]; rate != "" {
		var err error
		if f.Rate, err = strconv.ParseFloat(rate, 64); err != nil {
			return nil, fmt.Errorf("%w: the rate of the fault in event %d: %w", ErrRecording, ev.Seq, err)
		}
	}
	if seed, err := strconv.ParseUint(a["seed"], 10, 64); err == nil {
		f.Seed = seed
	}
	for name, value := range a {
		if name, ok := strings.CutPrefix(name, "with."); ok {
			if f.With == nil {
				f.With = map[string]string{}
			}
			f.With[name] = value
		}
	}
	if err := f.Validate(); err != nil {
		return nil, fmt.Errorf("%w: event %d: %w", ErrRecording, ev.Seq, err)
	}
	return f, nil
}

// Calls counts the calls among the steps.
func (r *Recording) Calls() (n int) {
	for i := range r.Steps {
		if r.Steps[i].Call != nil {
			n++
		}
	}
	return n
}

// Faults are those that began, as a schedule from the recording's beginning.
func (r *Recording) Faults() fault.Schedule {
	s := fault.Schedule{Version: fault.Version}
	for i := range r.Steps {
		if f := r.Steps[i].Began; f != nil {
			one := *f
			one.At.Duration = r.Steps[i].Begin.Sub(r.Began)
			s.Faults = append(s.Faults, one)
		}
	}
	return s
}

// timeOf is when the event of a number was; false when it is not among those that count.
func (r *Recording) timeOf(seq uint64) (time.Time, bool) {
	i, ok := slices.BinarySearchFunc(r.all, seq, func(ev journal.Event, seq uint64) int {
		return cmp.Compare(ev.Seq, seq)
	})
	if !ok {
		return time.Time{}, false
	}
	return r.all[i].Time, true
}
