package twin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Events returns all that the cloud's journal holds, oldest first.
func (t *Twin) Events() (events []journal.Event, err error) {
	err = journal.Read(filepath.Join(t.StateDir, "journal.jsonl"), func(ev journal.Event) { events = append(events, ev) })
	return events, err
}

// KeepEvidence puts into the report of every spec that fails what its time left in the journal (API trace,
// deliveries, milestones), the consoles of all guests, and the logs of cloud and node. It belongs in the suite's or
// container's top level; of gives the twin, nil before it was started. It also reads every guest's console after every
// spec, and fails a spec during which a guest wrote what no healthy one does (watch.go); Allow makes exceptions.
func KeepEvidence(of func() *Twin) bool {
	ginkgo.JustAfterEach(func() {
		t := of()
		if t == nil {
			return
		}
		report := ginkgo.CurrentSpecReport()
		wrong := t.examine(report)
		if report.Failed() || wrong != nil {
			t.keepEvidence(report)
			l := &locker{dir: Artifacts(), left: maxArtifacts}
			t.keepRecording(context.Background(), l, report) // first: it has all of it
			if l.dir != "" {
				t.keepArtifacts(l, report)
			}
			t.noteFailure()
		}
		if wrong != nil && !report.Failed() {
			ginkgo.Fail(wrong.Error())
		}
	})
	return true
}

func (t *Twin) keepEvidence(report ginkgo.SpecReport) {
	ginkgo.AddReportEntry("events", t.eventsSince(report.StartTime), ginkgo.ReportEntryVisibilityFailureOrVerbose)
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	status, err := t.Operator.Status(ctx)
	if err != nil {
		ginkgo.AddReportEntry("status", err.Error(), ginkgo.ReportEntryVisibilityFailureOrVerbose)
	}
	for _, i := range status.Instances {
		if console, err := os.ReadFile(i.ConsolePath); err == nil {
			ginkgo.AddReportEntry("console "+i.ID+" "+i.Name, string(console), ginkgo.ReportEntryVisibilityFailureOrVerbose)
		}
	}
	for _, p := range []*process{t.cloud, t.node} { // those of further nodes tell theirs when they leave
		if p != nil {
			ginkgo.AddReportEntry("log of "+p.name, p.tail(), ginkgo.ReportEntryVisibilityFailureOrVerbose)
		}
	}
}

func (t *Twin) eventsSince(start time.Time) string {
	events, err := t.Events()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, ev := range events {
		if !ev.Time.Before(start) {
			fmt.Fprintf(&b, "%8.3f %s\n", ev.Time.Sub(start).Seconds(), eventText(ev))
		}
	}
	return b.String()
}
