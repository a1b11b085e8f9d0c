package servo

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The states of a backend.
const (
	InService    = "InService"
	OutOfService = "OutOfService"
)

// maxMembers bounds the instances and metrics of one report.
const maxMembers = 1000

// States is what a guest reports.
type States struct {
	Instances map[string]string // instance id to InService or OutOfService
	Metrics   []Metric
}

// Metric is a counter or measurement since the last report: Latency, RequestCount, HTTPCode_ELB_4XX, ….
type Metric struct {
	Name  string
	Unit  string // Count, Seconds
	Value float64
}

// Form returns the report as form fields, instanceID being the reporter.
func (s *States) Form(instanceID string) url.Values {
	form := url.Values{"Action": {PutAction}, "Version": {Version}, "InstanceId": {instanceID}}
	for i, id := range slices.Sorted(maps.Keys(s.Instances)) {
		form.Set(fmt.Sprintf("Instances.member.%d.InstanceId", i+1), id+":"+s.Instances[id])
	}
	for i, m := range s.Metrics {
		prefix := fmt.Sprintf("MetricData.member.%d.", i+1)
		form.Set(prefix+"MetricName", m.Name)
		form.Set(prefix+"Unit", m.Unit)
		form.Set(prefix+"Value", strconv.FormatFloat(m.Value, 'g', -1, 64))
	}
	return form
}

// MarshalPutAnswer returns the body of the response to a report. It repeats the intervals: the original guest takes
// them from either answer.
func MarshalPutAnswer(intervals Intervals, requestID string) ([]byte, error) {
	body, err := xml.Marshal(struct {
		XMLName   xml.Name  `xml:"PutServoStatesResponse"`
		Namespace string    `xml:"xmlns,attr"`
		Result    struct{}  `xml:"PutServoStatesResult"`
		Servo     Intervals `xml:"ServoResponseMetadata"`
		RequestID string    `xml:"ResponseMetadata>RequestId"`
	}{Namespace: Namespace, Servo: intervals, RequestID: requestID})
	if err != nil {
		return nil, fmt.Errorf("encode answer to %s: %w", PutAction, err)
	}
	return append([]byte(xml.Header), body...), nil
}

// ParseStates reads a report's form fields; an error names the field.
func ParseStates(form url.Values) (*States, error) {
	s := &States{Instances: map[string]string{}}
	for i := 1; ; i++ {
		field := fmt.Sprintf("Instances.member.%d.InstanceId", i)
		text := form.Get(field)
		if text == "" {
			break
		}
		id, state, _ := strings.Cut(text, ":")
		if id == "" || (state != InService && state != OutOfService) || i > maxMembers {
			return nil, fmt.Errorf("%s must be INSTANCE:%s or INSTANCE:%s, at most %d of them", field, InService,
				OutOfService, maxMembers)
		}
		s.Instances[id] = state
	}
	for i := 1; ; i++ {
		prefix := fmt.Sprintf("MetricData.member.%d.", i)
		name := form.Get(prefix + "MetricName")
		if name == "" {
			return s, nil
		}
		value, err := strconv.ParseFloat(form.Get(prefix+"Value"), 64)
		if err != nil || i > maxMembers {
			return nil, fmt.Errorf("%sValue must be a number, at most %d metrics", prefix, maxMembers)
		}
		s.Metrics = append(s.Metrics, Metric{Name: name, Unit: form.Get(prefix + "Unit"), Value: value})
	}
}
