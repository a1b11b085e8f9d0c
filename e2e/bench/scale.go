package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/scale"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// The numbers of load balancers that are measured on the way.
const (
	scaleFirst  = 1000
	scaleMiddle = 5000
	scaleLast   = 20000
	scaleNodes  = 1000
)

// The aims at the last number.
const (
	scaleLimit    = 600.0   // s
	deliveryLimit = 0.05    // s
	rssLimit      = 16384.0 // MB
	// growthAim is how much more a load balancer may take among many than among few.
	growthAim   = 1.25
	scaleEnding = 5 * time.Minute
)

// benchScale runs 'cloudtwin scale' up to the largest number that is wanted.
func benchScale(ctx context.Context, s *suite) error {
	most := scaleFirst
	if s.wants(nameScaleMiddle) {
		most = scaleMiddle
	}
	if s.wants(nameScaleLast) || s.wants(nameScaleDelivery) || s.wants(nameScaleRSS) {
		most = scaleLast
	}
	report, err := runScale(ctx, s, most)
	if err != nil {
		return err
	}
	for _, r := range scaleResults(report) {
		s.emit(r)
	}
	return nil
}

func runScale(ctx context.Context, s *suite, most int) (scale.Report, error) {
	path, err := s.binary(ctx)
	if err != nil {
		return scale.Report{}, err
	}
	var out, words bytes.Buffer
	cmd := exec.Command(path, "scale", "--json", "--nodes", strconv.Itoa(scaleNodes),
		"--load-balancers", strconv.Itoa(most))
	cmd.Stdout, cmd.Stderr = &out, &words
	running, err := startChild(cmd, syscall.SIGTERM, nil)
	if err != nil {
		return scale.Report{}, err
	}
	select {
	case <-running.ended:
		err = running.err
	case <-ctx.Done():
		err = errors.Join(context.Cause(ctx), running.end(scaleEnding))
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == exitUnfit {
		err = fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, err)
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(words.String()), "\n")
		return scale.Report{}, fmt.Errorf("cloudtwin scale: %w: %s", err, lines[len(lines)-1])
	}
	var report scale.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		return scale.Report{}, fmt.Errorf("read the report of cloudtwin scale: %w", err)
	}
	return report, nil
}

// scaleResults takes the steps apart. Beside the time for many is that of the first ones, as many times over: a
// load balancer must not cost more because there are others.
func scaleResults(report scale.Report) []result {
	var out []result
	var sum, first float64
	for _, row := range report.Rows {
		sum += row.Seconds
		const each = "so many times the first thousand"
		r := result{Value: sum, Unit: seconds}
		switch row.LoadBalancers {
		case scaleFirst:
			first = sum
			r.Name = nameScaleFirst
			out = append(out, r)
		case scaleMiddle:
			r.Name = nameScaleMiddle
			out = append(out, r.against(each, first*scaleMiddle/scaleFirst, atMost(growthAim)))
		case scaleLast:
			r.Name = nameScaleLast
			out = append(out, r.against(each, first*scaleLast/scaleFirst, atMost(growthAim).within(scaleLimit)))
			out = append(out,
				result{Name: nameScaleDelivery, Value: row.DeliveryP99Millis / 1000, Unit: seconds}.
					against("among the first thousand", report.Rows[0].DeliveryP99Millis/1000, aim{}.within(deliveryLimit)),
				result{Name: nameScaleRSS, Value: row.PeakRSSMB, Unit: megabytes}.
					against("what its guests take alone", row.GuestKB*scaleLast/1024, aim{}.within(rssLimit)))
		}
	}
	return out
}
