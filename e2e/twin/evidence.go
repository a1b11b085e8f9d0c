package twin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Events returns all that the cloud's journal holds, oldest first.
func (t *Twin) Events() ([]journal.Event, error) {
	f, err := os.Open(filepath.Join(t.StateDir, "journal.jsonl"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var events []journal.Event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var ev journal.Event
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			return nil, fmt.Errorf("line %d of the journal: %w", len(events)+1, err)
		}
		events = append(events, ev)
	}
	return events, lines.Err()
}

// KeepEvidence puts into the report of every spec that fails what its time left in the journal (API trace,
// deliveries, milestones), the consoles of all guests, and the logs of cloud and node. It belongs in the suite's or
// container's top level; of gives the twin, nil before it was started.
func KeepEvidence(of func() *Twin) bool {
	ginkgo.JustAfterEach(func() {
		if t := of(); t != nil && ginkgo.CurrentSpecReport().Failed() {
			t.keepEvidence(ginkgo.CurrentSpecReport())
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
	for _, p := range []*process{t.cloud, t.node} {
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
			fmt.Fprintf(&b, "%8.3f %-18s %s %v\n", ev.Time.Sub(start).Seconds(), ev.Kind, ev.Subject, ev.Attributes)
		}
	}
	return b.String()
}
