package twin

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
)

// exitInfrastructure is the exit code by which the product says that the machine is at fault.
const exitInfrastructure = 3

// FailMachine fails the spec or suite by the machine's fault: 'cloudtwin test' reports it apart from the product's and
// tries it once more. Use it for what a spec needs and cannot have here, never for what the product did.
func FailMachine(format string, args ...any) {
	ginkgo.GinkgoHelper()
	what := fmt.Sprintf(format, args...)
	blameMachine(what, "")
	ginkgo.Fail(verdict.Prefix + what)
}

// ExpectMachine fails the spec when there is an error: by the machine's fault when it is of those that a machine makes
// (no room on the disk, no hypervisor, a port in use), by the product's otherwise. what says what was tried.
func ExpectMachine(err error, what string, args ...any) {
	ginkgo.GinkgoHelper()
	switch {
	case err == nil:
	case local.IsInfrastructure(err):
		FailMachine("%s: %v", fmt.Sprintf(what, args...), err)
	default:
		ginkgo.Fail(fmt.Sprintf("%s: %v", fmt.Sprintf(what, args...), err))
	}
}

// blameMachine puts into the report that what failed is the machine's fault.
func blameMachine(what, path string) {
	ginkgo.AddReportEntry(verdict.Entry, verdict.Cause{Blame: verdict.Infrastructure, What: what, Path: path,
		Time: time.Now()}.JSON(), ginkgo.ReportEntryVisibilityNever)
}

// blameExit blames the machine when one of a twin's processes ended with the code that says so.
func (p *process) blameExit() {
	if code, ended := p.exited(); ended && code == exitInfrastructure {
		lines := strings.Split(p.tail(), "\n")
		blameMachine(fmt.Sprintf("%s ended: %s", p.name, lines[len(lines)-1]), p.log)
	}
}

// firstBad finds the earliest event since start that no healthy twin has, but for those that the spec allows.
// Events are matched as "kind subject name=value name=value".
func firstBad(events []journal.Event, start time.Time, allowed []*regexp.Regexp) (verdict.Cause, bool) {
	for _, ev := range events {
		if ev.Time.Before(start) || !bad(ev) {
			continue
		}
		text := eventText(ev)
		if slices.ContainsFunc(allowed, func(p *regexp.Regexp) bool { return p.MatchString(text) }) {
			continue
		}
		return verdict.Cause{Blame: verdict.Product, What: text, Time: ev.Time}, true
	}
	return verdict.Cause{}, false
}

// bad tells whether an event means that something went wrong, by itself.
func bad(ev journal.Event) bool {
	switch ev.Kind {
	case "delivery.denied", "invariant.broken":
		return true
	case "guest.milestone":
		return slices.Contains([]string{"failed", "listener-failed", "medium-refused"}, ev.Attributes["stage"])
	case "instance.state":
		return ev.Attributes["state"] == "failed"
	case "api.request":
		return strings.HasPrefix(ev.Attributes["status"], "5")
	}
	return false
}

// maxEventText is how long an event's line may be in a failure's cause, in bytes.
const maxEventText = 400

func eventText(ev journal.Event) string {
	names := make([]string, 0, len(ev.Attributes))
	for name := range ev.Attributes {
		if name != "params" && name != "made" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	text := ev.Kind + " " + ev.Subject
	for _, name := range names {
		text += " " + name + "=" + ev.Attributes[name]
	}
	return strings.ToValidUTF8(text[:min(len(text), maxEventText)], "")
}
