package servo_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestDescriptionRoundTrip(t *testing.T) {
	want := &servo.Description{
		Revision: "7",
		Metadata: servo.Intervals{GetLBInterval: 10, PutMetricInterval: 60, PutInstanceHealthInterval: 10},
		LoadBalancers: []servo.LoadBalancer{{
			Name: "web", DNSName: "127.64.0.1", AvailabilityZones: []string{"us-east-1a"}, Scheme: "internet-facing",
			Listeners: []servo.Listener{{Protocol: "HTTPS", LoadBalancerPort: 443, InstanceProtocol: "HTTP", InstancePort: 80,
				SSLCertificateID: "arn:aws:iam::123456789012:server-certificate/a", CertificateRevision: "3"}},
			Backends: []servo.Backend{{InstanceID: "i-1", IPAddress: "10.64.0.17", ReportHealthCheck: true}},
			HealthCheck: servo.HealthCheck{
				Target:             "HTTP:80/",
				Interval:           30,
				Timeout:            5,
				UnhealthyThreshold: 2,
				HealthyThreshold:   10,
			},
			Attributes: servo.LoadBalancerParams{CrossZone: true, IdleTimeout: 60},
		}},
	}
	body, err := want.MarshalXMLBody("request")
	if err != nil {
		t.Fatal(err)
	}
	got, err := servo.ParseDescription(body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStatesRoundTrip(t *testing.T) {
	want := &servo.States{
		Instances: map[string]string{"i-1": servo.InService, "i-2": servo.OutOfService},
		Metrics: []servo.Metric{
			{Name: "Latency", Unit: "Seconds", Value: 0.25},
			{Name: "RequestCount", Unit: "Count", Value: 3},
		},
	}
	got, err := servo.ParseStates(want.Form("i-lb"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadForms(t *testing.T) {
	tests := []struct {
		name string
		form url.Values
	}{
		{name: "unknown state", form: url.Values{"Instances.member.1.InstanceId": {"i-1:Fine"}}},
		{name: "no instance", form: url.Values{"Instances.member.1.InstanceId": {":InService"}}},
		{
			name: "no number",
			form: url.Values{"MetricData.member.1.MetricName": {"Latency"}, "MetricData.member.1.Value": {"fast"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if s, err := servo.ParseStates(tt.form); err == nil {
				t.Errorf("accepted as %+v", s)
			}
		})
	}
}

func TestDescribeForm(t *testing.T) {
	id, revision, wait, err := servo.ParseDescribe(servo.DescribeForm("i-lb", "7", 20*time.Second))
	if err != nil || id != "i-lb" || revision != "7" || wait != 20*time.Second {
		t.Errorf("got %s, %s, %s, %v", id, revision, wait, err)
	}
	for _, text := range []string{"-1", "61", "soon"} {
		form := servo.DescribeForm("i-lb", "", 0)
		form.Set("WaitSeconds", text)
		if _, _, _, err := servo.ParseDescribe(form); err == nil {
			t.Errorf("WaitSeconds %s was accepted", text)
		}
	}
}

func FuzzParseDescription(f *testing.F) {
	body, err := (&servo.Description{LoadBalancers: []servo.LoadBalancer{{Name: "web"}}}).MarshalXMLBody("r")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Memory(t, len(data), func() { _, _ = servo.ParseDescription(data) })
	})
}
