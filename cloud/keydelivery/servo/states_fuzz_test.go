package servo

import (
	"net/url"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// FuzzParseStates: no form makes the reader of a guest's report panic or go on without end.
func FuzzParseStates(f *testing.F) {
	for _, query := range []string{
		"Instances.member.1.InstanceId=i-1:InService&Instances.member.2.InstanceId=i-2:OutOfService",
		"Instances.member.1.InstanceId=i-1", "Instances.member.1.InstanceId=:InService",
		"Instances.member.1.InstanceId=i-1:Odd&Instances.member.1.InstanceId=i-1:InService",
		"MetricData.member.1.MetricName=Latency&MetricData.member.1.Value=1e308&MetricData.member.1.Unit=Seconds",
		"MetricData.member.1.MetricName=RequestCount&MetricData.member.1.Value=NaN",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		bounded.Memory(t, len(query), func() {
			form, err := url.ParseQuery(query)
			if err != nil {
				return
			}
			states, err := ParseStates(form)
			if err != nil {
				return
			}
			for id, state := range states.Instances {
				if id == "" || state != "InService" && state != "OutOfService" {
					t.Errorf("instance %q is %q", id, state)
				}
			}
		})
	})
}
