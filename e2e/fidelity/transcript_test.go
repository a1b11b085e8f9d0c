package fidelity

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// A transcript is what guests of one role said and were answered in one phase of the scenario, told apart by tracks:
// within a track order counts, between tracks (health checks and the delivery of a key, two listeners) it is up to the
// guest's goroutines.
type transcript map[string][]string

// The tracks. A listener's own are added by its port, and the way of a key goes through three of them: it is delivered,
// the guest has it, and it serves with it. That holds whatever else happens in between.
const (
	trackKey        = "key"
	trackMetadata   = "metadata"
	trackAPI        = "api"
	trackHealth     = "health"
	trackDeliveries = "deliveries"
	trackState      = "state"
)

// afterEnd is the phase in which a guest is not wanted any more. What it still says, and hears, depends on how fast its
// machine is taken away from it.
const afterEnd = "end"

// wholeLife is in place of a phase where only whether counts, and not when.
const wholeLife = "at any time"

// moment is a line of a transcript and when it was.
type moment struct {
	at          time.Time
	guest       string
	track, line string
}

// recording collects the moments of a twin's guests.
type recording struct {
	twin   *twin.Twin
	roles  map[string]string // by instance id
	names  *strings.Replacer // of certificates
	phases []phase
}

type phase struct {
	name  string
	began time.Time
}

func (r *recording) begin(name string) {
	r.phases = append(r.phases, phase{name: name, began: time.Now()})
}

// transcripts sorts what the journal and the node's log hold into phases, roles and tracks.
func (r *recording) transcripts() transcript {
	moments := append(r.journal(), r.metadata()...)
	slices.SortStableFunc(moments, func(a, b moment) int { return a.at.Compare(b.at) })
	out := transcript{}
	for _, m := range moments {
		role, known := r.roles[m.guest]
		phase := r.phaseOf(m.at)
		if !known || phase == afterEnd && m.track != trackState {
			continue
		}
		if m.track == trackHealth {
			phase = wholeLife // reports come at intervals, so a slower guest makes more of them
		}
		key := strings.Join([]string{phase, role, m.track}, " / ")
		line := r.names.Replace(m.line)
		// A poll or a report that is repeated says nothing new: how often is a matter of time, not of protocol. Anything
		// else counts as often as it happens.
		if !polled(m) || !slices.Contains(out[key], line) {
			out[key] = append(out[key], line)
		}
	}
	return out
}

// polls are what guests ask again and again.
var polls = []string{
	"elasticloadbalancing:DescribeLoadBalancersByServo", "elasticloadbalancing:PutServoStates",
	"PUT /latest/api/token", // each metadata client's own, when the last one has run out
	"GET /latest/meta-data/iam/security-credentials/", "GET /latest/meta-data/public-keys/",
}

func polled(m moment) bool {
	return slices.ContainsFunc(polls, func(poll string) bool { return strings.HasPrefix(m.line, poll) })
}

func (r *recording) phaseOf(at time.Time) string {
	name := "before"
	for _, p := range r.phases {
		if !at.Before(p.began) {
			name = p.name
		}
	}
	return name
}

// listenerStages are the guest's own words about a listener.
var listenerStages = []string{"key-received", "serving", "listener-failed", "listener-closed"}

// journal reads API calls, deliveries, states and the guests' words on their listeners.
func (r *recording) journal() []moment {
	events, err := r.twin.Events()
	Expect(err).NotTo(HaveOccurred())
	var found []moment
	add := func(at time.Time, guest, track, format string, args ...any) {
		found = append(found, moment{at: at, guest: guest, track: track, line: fmt.Sprintf(format, args...)})
	}
	for _, ev := range events {
		a := ev.Attributes
		switch ev.Kind {
		case "api.request":
			caller := a["caller"]
			guest := caller[strings.LastIndex(caller, "/")+1:]
			track := trackAPI
			if strings.HasSuffix(ev.Subject, ":PutServoStates") {
				track = trackHealth
			}
			add(ev.Time, guest, track, "%s %s", ev.Subject, a["status"])
		case "delivery.granted", "delivery.denied":
			add(ev.Time, ev.Subject, trackDeliveries, "%s %s %s", ev.Kind, a["arn"], a["reason"])
			add(ev.Time, ev.Subject, trackKey, "%s", ev.Kind)
		case "instance.state":
			add(ev.Time, ev.Subject, trackState, "%s", a["state"])
		case "guest.milestone":
			if slices.Contains(listenerStages, a["stage"]) {
				add(ev.Time, ev.Subject, "listener "+a["listener"]+a["port"], "%s %s%s %s", a["stage"], a["protocol"], a["arn"],
					a["reason"])
			}
			if a["listener"] == strconv.Itoa(securePort) {
				add(ev.Time, ev.Subject, trackKey, "%s", a["stage"])
			}
		}
	}
	return found
}

// metadataLine is how the node logs a request to its metadata service.
var metadataLine = regexp.MustCompile(
	`^time=(\S+) .*msg="metadata request" instance=(\S+) method=(\S+) path=(\S+) status=(\S+)`)

// metadata reads the requests of guests from the node's log.
func (r *recording) metadata() []moment {
	f, err := os.Open(filepath.Join(filepath.Dir(r.twin.NodeDir()), "node.log"))
	Expect(err).NotTo(HaveOccurred())
	defer f.Close()
	var found []moment
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		parts := metadataLine.FindStringSubmatch(lines.Text())
		if parts == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, parts[1])
		Expect(err).NotTo(HaveOccurred())
		found = append(found, moment{at: at, guest: parts[2], track: trackMetadata, line: strings.Join(parts[3:], " ")})
	}
	Expect(lines.Err()).NotTo(HaveOccurred())
	Expect(found).NotTo(BeEmpty(), "the node logs its guests' requests for metadata")
	return found
}

// String is for people.
func (t transcript) String() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "%s\n", key)
		for _, line := range t[key] {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	return b.String()
}
