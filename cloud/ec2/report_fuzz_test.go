package ec2

import (
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	limits "github.com/cloudtwin/cloudtwin/fixtures/bounded" // beside this package's own bounded
)

// FuzzReport: whatever a node reports, what is kept of it is bounded and valid text.
func FuzzReport(f *testing.F) {
	for _, report := range []*nodelink.Report{
		{},
		{First: true, Instances: []*nodelink.InstanceStatus{{
			InstanceId: "i-0123456789abcdef0", State: nodeRunning, ConsolePath: "/c",
			Milestones: []*nodelink.Milestone{{Stage: "serving", UnixNanos: 1, Attributes: map[string]string{"a": "b"}}},
		}}},
		{Instances: []*nodelink.InstanceStatus{{State: nodeFailed, Reason: "no sign of life"}}},
	} {
		data, err := proto.Marshal(report)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\x12\x08\x22\x06\x0a\x04\xff\xfe\xfd\xfc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		limits.Memory(t, len(data), func() {
			var report nodelink.Report
			if proto.Unmarshal(data, &report) != nil {
				return
			}
			var known []Milestone
			for _, is := range report.GetInstances() {
				milestones := parseMilestones(is.GetMilestones())
				tellsNews(&Instance{State: Pending, Milestones: known}, is, milestones)
				known, _ = mergeMilestones(known, milestones)
			}
			if len(known) > 4*(nodelink.KeepFirst+nodelink.KeepLast) {
				t.Errorf("%d milestones are kept", len(known))
			}
			for _, m := range known {
				if m.Stage == "" || len(m.Stage) > maxStage || !utf8.ValidString(m.Stage) || len(m.Attributes) > maxAttributes {
					t.Errorf("milestone %+v", m)
				}
				for name, value := range m.Attributes {
					if len(name) > maxStage || len(value) > maxAttribute || !utf8.ValidString(name+value) {
						t.Errorf("attribute %q: %q", name, value)
					}
				}
			}
		})
	})
}
