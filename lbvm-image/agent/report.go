package agent

import (
	"context"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

const (
	// Bounds and defaults of the intervals between reports.
	minReport, maxReport         = time.Second, 10 * time.Minute
	healthInterval, metricsEvery = 10 * time.Second, time.Minute
	// gather is how long a change waits for others to be told with it: backends come into service together when their
	// load balancer starts, and a report takes as long as a tenth of that start.
	gather = 100 * time.Millisecond
)

// report tells elb the state of the backends, at intervals and soon after one changes, and what was carried.
func (vm *lbvm) report(ctx context.Context) error {
	pause := backoff{first: firstRetry, max: healthInterval}
	told := map[string]string{}
	health := time.NewTimer(healthInterval)
	metrics := time.NewTimer(metricsEvery)
	defer health.Stop()
	defer metrics.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-metrics.C:
			metrics.Reset(clamp(int(vm.intervals.metrics.Load()), minReport, metricsEvery, maxReport))
			vm.reportMetrics(ctx)
			continue
		case <-vm.balancer.Pool.Changed():
			if !news(told, vm.balancer.Pool.States()) {
				continue
			}
			if !sleep(ctx, gather) {
				return nil
			}
		case <-health.C:
		}
		next := clamp(int(vm.intervals.health.Load()), minReport, healthInterval, maxReport)
		states := vm.balancer.Pool.States()
		if len(states) == 0 {
			next = maxReport // the pool says when there is somebody to report on
		}
		if err := vm.reportHealth(ctx, states); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			vm.world.Logger.Warn("health not reported", "error", err)
			next = min(next, pause.next())
		} else {
			told = states
			pause.reset()
		}
		health.Reset(next)
	}
}

func (vm *lbvm) reportHealth(ctx context.Context, states map[string]string) error {
	if len(states) == 0 {
		return nil
	}
	return vm.control.PutStates(ctx, vm.instanceID, &servo.States{Instances: states})
}

// news tells whether states say something that elb does not know: it takes a backend for out of service until told.
func news(told, states map[string]string) bool {
	for id, state := range states {
		known, ok := told[id]
		if !ok {
			known = servo.OutOfService
		}
		if state != known {
			return true
		}
	}
	return false
}

// reportMetrics sends what was counted since the last time; what is not delivered is counted on.
func (vm *lbvm) reportMetrics(ctx context.Context) {
	counts := vm.balancer.Metrics.Take()
	if counts.Zero() {
		return
	}
	if err := vm.control.PutStates(ctx, vm.instanceID, &servo.States{Metrics: metricsOf(counts)}); err != nil {
		vm.balancer.Metrics.Return(counts)
		if ctx.Err() == nil {
			vm.world.Logger.Warn("metrics not reported", "error", err)
		}
	}
}

// metricsOf names the counts as CloudWatch does for classic load balancers. Latency is the mean.
func metricsOf(c balancer.Counts) []servo.Metric {
	const count = "Count"
	list := []servo.Metric{{Name: "RequestCount", Unit: count, Value: float64(c.Requests)}}
	if c.Timed > 0 {
		mean := c.Latency.Seconds() / float64(c.Timed)
		list = append(list, servo.Metric{Name: "Latency", Unit: "Seconds", Value: mean})
	}
	for _, named := range []struct {
		name  string
		value int64
	}{
		{"HTTPCode_ELB_4XX", c.Own[4]},
		{"HTTPCode_ELB_5XX", c.Own[5]},
		{"HTTPCode_Backend_2XX", c.Backend[2]},
		{"HTTPCode_Backend_3XX", c.Backend[3]},
		{"HTTPCode_Backend_4XX", c.Backend[4]},
		{"HTTPCode_Backend_5XX", c.Backend[5]},
	} {
		if named.value > 0 {
			list = append(list, servo.Metric{Name: named.name, Unit: count, Value: float64(named.value)})
		}
	}
	return list
}
