package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

const (
	// longPoll is how long the cloud may hold a question for the listeners when nothing changes: as long as it will,
	// for each question costs it a request, and there may be very many guests. A connection that died meanwhile is
	// found by package control.
	longPoll = servo.MaxWait
	// settle lies at least between two answers, so that a cloud in turmoil is not asked without end.
	settle = 50 * time.Millisecond
	// settleFirst lies between the first two answers: the keys of the first are fetched over the connection that the
	// question would otherwise take, and another handshake is what a guest that starts has no time for.
	settleFirst = 300 * time.Millisecond
	// maxAsk is the longest pause between attempts to reach a cloud that is away.
	maxAsk = 5 * time.Second
	// Bounds and default of the pauses that a cloud asks for which knows no long poll.
	minPoll, defaultPoll, maxPoll = time.Second, 5 * time.Second, time.Minute
)

// listeners gives each port its worker.
type listeners struct {
	world    World
	balancer *balancer.Balancer
	fetch    func(context.Context, string) (*tls.Certificate, error)
	policy   balancer.HealthPolicy
	workers  map[int]*worker
	running  sync.WaitGroup
}

func newListeners(
	world World, b *balancer.Balancer, fetch func(context.Context, string) (*tls.Certificate, error),
) *listeners {
	return &listeners{world: world, balancer: b, fetch: fetch, workers: map[int]*worker{}}
}

// followListeners keeps what is served like what elb describes. While elb cannot be asked, what was served is served.
func (vm *lbvm) followListeners(ctx context.Context) error {
	pause := backoff{first: firstRetry, max: maxAsk}
	revision := ""
	for first := true; ; {
		began := time.Now()
		description, err := vm.control.Describe(ctx, vm.instanceID, revision, longPoll)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			vm.world.Logger.Warn("listeners not learnt", "error", err)
			if !sleep(ctx, pause.next()) {
				return nil
			}
			// A clock that is off makes every signature wrong, and a cloud that is up refuses them all.
			if err := vm.syncClock(ctx); err != nil {
				vm.world.Logger.Warn("clock not compared", "error", err)
			}
			continue
		}
		pause.reset()
		changed := first || description.Revision != revision || revision == ""
		if changed {
			vm.apply(ctx, description, first || description.Revision != revision)
		}
		rest := restTime(description, changed, time.Since(began))
		if first {
			rest = max(rest, settleFirst)
		}
		first, revision = false, description.Revision
		if rest > 0 && !sleep(ctx, rest) {
			return nil
		}
	}
}

// restTime is how long to wait before asking again. A cloud that holds the question until something changes is asked
// at once; one that answers at once, though nothing changed, is asked at the interval that it wishes.
func restTime(d *servo.Description, changed bool, took time.Duration) time.Duration {
	switch {
	case d.Revision == "" || (!changed && took < longPoll/2):
		return clamp(d.Metadata.GetLBInterval, minPoll, defaultPoll, maxPoll)
	case took < settle:
		return settle
	default:
		return 0
	}
}

// clamp makes a duration of seconds that arrive from outside; 0 means the default.
func clamp(seconds int, least, usual, most time.Duration) time.Duration {
	if seconds <= 0 {
		return usual
	}
	return min(max(time.Duration(min(seconds, int(most/time.Second)))*time.Second, least), most)
}

// apply makes a description what is served.
func (vm *lbvm) apply(ctx context.Context, d *servo.Description, tell bool) {
	vm.intervals.set(d.Metadata)
	var lb servo.LoadBalancer
	if len(d.LoadBalancers) > 0 {
		// A guest belongs to one load balancer; the list is the wire's form.
		lb = d.LoadBalancers[0]
	}
	if tell {
		vm.world.Console.Milestone(StageListeners,
			slog.String("revision", d.Revision), slog.String("count", strconv.Itoa(len(lb.Listeners))))
	}
	vm.listeners.apply(ctx, lb)
}

// apply sets backends first: their checks run while the keys are on their way.
func (l *listeners) apply(ctx context.Context, lb servo.LoadBalancer) {
	l.policy = healthPolicy(lb, l.policy, l.world.Logger)
	l.balancer.Pool.Set(backends(lb), l.policy)
	wanted := make(map[int]*spec, len(lb.Listeners))
	for _, listener := range lb.Listeners {
		port := listener.LoadBalancerPort
		if port < 1 || port > 65535 {
			l.world.Logger.Warn("listener without a port", "port", port)
			continue
		}
		wanted[port] = newSpec(listener, lb.Attributes)
	}
	for port, s := range wanted {
		w := l.workers[port]
		if w == nil {
			w = newWorker(l.world, l.balancer, port, l.fetch)
			l.workers[port] = w
			l.running.Go(func() { w.run(ctx) })
		}
		w.set(s)
	}
	for port, w := range l.workers {
		if wanted[port] == nil {
			w.set(nil)
		}
	}
}

// wait returns when all ports are closed, after the context of apply has ended.
func (l *listeners) wait() { l.running.Wait() }

// newSpec reads one listener's description.
func newSpec(listener servo.Listener, attributes servo.LoadBalancerParams) *spec {
	protocol, err := balancer.ParseProtocol(listener.Protocol)
	if err != nil {
		return &spec{problem: err.Error()}
	}
	instance := listener.InstanceProtocol
	if instance == "" {
		// As in the API: the default is the listener's own layer, in clear.
		instance = string(balancer.TCP)
		if protocol.Layer7() {
			instance = string(balancer.HTTP)
		}
	}
	inner, err := balancer.ParseProtocol(instance)
	switch {
	case err != nil:
		return &spec{problem: "instance: " + err.Error()}
	case inner.Layer7() != protocol.Layer7():
		return &spec{problem: "listener and instance protocol are of different layers"}
	case listener.InstancePort < 1 || listener.InstancePort > 65535:
		return &spec{problem: "instance port is not 1 to 65535"}
	case protocol.Secure() && listener.SSLCertificateID == "":
		return &spec{problem: "listener names no certificate"}
	}
	s := &spec{
		protocol: protocol,
		route: balancer.Route{
			Protocol: inner, Port: listener.InstancePort,
			Idle: clamp(attributes.IdleTimeout, time.Second, time.Minute, time.Hour),
		},
	}
	if protocol.Secure() {
		s.certificate = certificateKey{arn: listener.SSLCertificateID, revision: listener.CertificateRevision}
	}
	return s
}

func backends(lb servo.LoadBalancer) []balancer.Backend {
	list := make([]balancer.Backend, 0, len(lb.Backends))
	for _, b := range lb.Backends {
		if b.InstanceID != "" && b.IPAddress != "" {
			list = append(list, balancer.Backend{
				InstanceID: b.InstanceID, Address: b.IPAddress, Report: b.ReportHealthCheck,
			})
		}
	}
	return list
}

// healthPolicy reads the health check. One that makes no sense leaves the policy before it in force; without any, the
// instances' port is tried, which is the API's own default.
func healthPolicy(lb servo.LoadBalancer, before balancer.HealthPolicy, logger *slog.Logger) balancer.HealthPolicy {
	check := lb.HealthCheck
	text := strings.TrimSpace(check.Target)
	if text == "" && len(lb.Listeners) > 0 {
		text = fmt.Sprintf("TCP:%d", lb.Listeners[0].InstancePort)
	}
	target, err := balancer.ParseTarget(text)
	if err != nil {
		if text != "" {
			logger.Warn("health check not understood", "error", err)
		}
		return before
	}
	return balancer.HealthPolicy{
		Target:    target,
		Interval:  clamp(check.Interval, time.Second, 30*time.Second, time.Hour),
		Timeout:   clamp(check.Timeout, time.Second, 5*time.Second, time.Hour),
		Unhealthy: check.UnhealthyThreshold,
		Healthy:   check.HealthyThreshold,
	}
}

// intervals are how often the cloud wants reports; the zero value means the defaults.
type intervals struct{ health, metrics atomic.Int64 }

func (i *intervals) set(m servo.Intervals) {
	i.health.Store(int64(m.PutInstanceHealthInterval))
	i.metrics.Store(int64(m.PutMetricInterval))
}
