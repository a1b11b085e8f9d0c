package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
)

// The names of the results. They stay as they are: what compares runs goes by them.
const (
	nameBareBoot          = "boot.bare.floppy_read"
	nameFirstHandshake    = "start.cold.first_handshake"
	nameStages            = "start.cold.stage." // followed by the stage
	nameTenAtOnce         = "start.cold.ten_at_once"
	nameDeliveryRate      = "delivery.profile2.rate"
	nameDeliveryP99       = "delivery.profile2.p99"
	nameCallerIdentity    = "api.GetCallerIdentity.rate"
	nameDescribeInstances = "api.DescribeInstances.1000.rate"
	nameCloudStart        = "cloud.start"
	nameForkHandshake     = "start.fork.first_handshake"
	nameForkStages        = "start.fork.stage." // followed by the stage
	nameForkTen           = "start.fork.ten_at_once"
	namePooledHandshake   = "start.fork.pooled.first_handshake"
	namePooledTen         = "start.fork.pooled.ten_at_once"
	nameSimHandshake      = "start.sim.first_handshake"
	nameBareFork          = "fork.bare.floppy_read"
	nameDensity           = "density.200.pss_per_lbvm"
	nameRecordOverhead    = "record.overhead"
	nameRecordAPI         = "record.overhead.GetCallerIdentity"
	nameRecordDelivery    = "record.overhead.delivery"
	nameRecordBytes       = "record.bytes_per_event"
	nameScaleFirst        = "scale.1000.seconds"
	nameScaleMiddle       = "scale.5000.seconds"
	nameScaleLast         = "scale.20000.seconds"
	nameScaleDelivery     = "scale.20000.delivery_p99"
	nameScaleRSS          = "scale.20000.rss"
)

// benchmark measures one thing and gives one or more results.
type benchmark struct {
	names []string
	run   func(context.Context, *suite) error
}

// benchmarks are all that there are, in the order in which they run.
func benchmarks() []benchmark {
	return []benchmark{
		{[]string{nameBareBoot}, benchBareBoot},
		{[]string{nameBareFork}, benchBareFork},
		{append([]string{nameFirstHandshake, nameTenAtOnce}, stageNames(nameStages)...), benchColdStarts},
		{append([]string{nameForkHandshake, nameForkTen}, stageNames(nameForkStages)...), benchForkStarts},
		{[]string{namePooledHandshake}, benchPooledStarts},
		{[]string{namePooledTen}, benchPooledBurst},
		{[]string{nameSimHandshake}, benchSimStarts},
		{[]string{nameDensity}, benchDensity},
		{[]string{nameDelivery1Rate, nameDelivery1P99}, benchDelivery1},
		{[]string{nameDeliveryRate, nameDeliveryP99}, benchDelivery},
		{apiNames(nameCallerIdentity), benchCallerIdentity},
		{slices.Concat(apiNames(nameGetRole), apiNames(nameListRoles), apiNames(nameAssumeRole)), benchRoles},
		{apiNames(nameDescribeInstances), benchDescribeInstances},
		{[]string{nameRecordOverhead, nameRecordAPI, nameRecordDelivery, nameRecordBytes}, benchRecord},
		{[]string{namePolicyTypical}, benchPolicy},
		{[]string{nameCloudStart}, benchCloudStart},
		{[]string{nameBundleOpen}, benchBundleOpen},
		{[]string{nameReplaySpeedup}, benchReplay},
		{[]string{nameScaleFirst, nameScaleMiddle, nameScaleLast, nameScaleDelivery, nameScaleRSS}, benchScale},
	}
}

// names are those of all results.
func names() []string {
	var all []string
	for _, b := range benchmarks() {
		all = append(all, b.names...)
	}
	return all
}

// suite is one run.
type suite struct {
	images  string
	only    *regexp.Regexp // nil means all
	room    *workroom
	table   *table
	results []result
	built   string    // the program under test, once it was built here
	bare    *bareBoot // once it was measured
	cold    *start    // once it was measured
}

func (s *suite) wants(name string) bool { return s.only == nil || s.only.MatchString(name) }

// emit shows a result and keeps it.
func (s *suite) emit(r result) {
	if s.wants(r.Name) {
		s.table.add(r)
		s.results = append(s.results, r)
	}
}

// run runs those benchmarks that give a wanted result. One that fails does not keep the next from running.
func (s *suite) run(ctx context.Context, all []benchmark) (failures []error) {
	for _, b := range all {
		if !slices.ContainsFunc(b.names, s.wants) {
			continue
		}
		if ctx.Err() != nil {
			return append(failures, fmt.Errorf("%s: %w", b.names[0], context.Cause(ctx)))
		}
		if err := b.run(ctx, s); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", b.names[0], err))
		}
	}
	return failures
}
