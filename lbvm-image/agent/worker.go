package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/control"
)

const (
	// drainTime is what requests under way get to finish when their port closes.
	drainTime = 5 * time.Second
	// graceTime is how long another certificate may take to arrive while the one before is still shown.
	graceTime = 10 * time.Second
	// confirmPause lies between a refusal and the question whether it was meant.
	confirmPause = 250 * time.Millisecond
	// Pauses between attempts to get a key or a port.
	firstRetry, maxRetry = 250 * time.Millisecond, 15 * time.Second
)

// certificateKey names one state of one certificate: the key behind an ARN can change, and then its revision does.
type certificateKey struct{ arn, revision string }

// spec is what a port is to do.
type spec struct {
	protocol    balancer.Protocol
	route       balancer.Route
	certificate certificateKey
	// problem, when set, is why the description of the listener makes no sense; nothing else counts then.
	problem string
}

// worker is the life of one port of the load balancer. Every port has one of its own, so that whatever one waits for
// or suffers, the others go on.
//
// The rule for keys, for listeners that need one:
//
//   - Without the key of the certificate that the listener names, its port is closed. It is asked for again and again,
//     with growing pauses, and at once when the listener changes.
//   - Same ARN, new revision: the certificate before is shown until the new one is there, and then swapped under the
//     open port. If the cloud cannot be reached, or answers nonsense, it is shown on: trouble takes nothing away.
//   - Another ARN: the user wants the one before no longer shown, and its grant is gone. It is shown only while the
//     new one is being fetched, at most graceTime; then the port closes.
//   - A refusal (not allowed, not there) closes the port in both cases, without grace: withdrawing a certificate must
//     stop its use. The cloud keeps listener and grant in two records, and a guest may ask between the two writes, so
//     a refusal counts when it was given twice, confirmPause apart.
//   - A port that closes stops to accept at once; requests under way may finish within drainTime.
type worker struct {
	world    World
	balancer *balancer.Balancer
	fetch    func(ctx context.Context, arn string) (*tls.Certificate, error)
	port     int
	mail     chan *spec

	want     *spec
	front    *balancer.Frontend
	serving  balancer.Protocol // front's
	held     certificateKey
	shown    *tls.Certificate // held's
	fetching certificateKey
	results  chan fetched // of the fetch under way; nil when there is none
	cancel   context.CancelFunc
	refusals int
	lastFail string
	pause    backoff
	retry    alarm
	grace    alarm
	work     sync.WaitGroup // fetches and drains under way
}

type fetched struct {
	certificate *tls.Certificate
	err         error
}

func newWorker(
	world World, b *balancer.Balancer, port int, fetch func(context.Context, string) (*tls.Certificate, error),
) *worker {
	return &worker{
		world: world, balancer: b, fetch: fetch, port: port, mail: make(chan *spec, 1),
		pause: backoff{first: firstRetry, max: maxRetry},
	}
}

// set tells the worker what its port is to do from now on; nil: nothing, it closes. Only the newest word counts. It
// never blocks, and is called from one goroutine.
func (w *worker) set(s *spec) {
	select {
	case <-w.mail:
	default:
	}
	w.mail <- s
}

// run lives until ctx ends and then ends everything of the port, without drain.
func (w *worker) run(ctx context.Context) {
	defer w.work.Wait()
	defer w.close(ctx)
	defer w.dropFetch()
	defer w.retry.unset()
	defer w.grace.unset()
	for {
		var broken <-chan struct{}
		if w.front != nil {
			broken = w.front.Ended()
		}
		select {
		case <-ctx.Done():
			return
		case s := <-w.mail:
			w.change(ctx, s)
		case got := <-w.results:
			w.received(ctx, got)
		case <-w.retry.C():
			w.retry.unset()
			w.converge(ctx)
		case <-w.grace.C():
			w.grace.unset()
			w.fail("the new certificate did not come in time")
			w.close(ctx)
		case <-broken:
			w.fail("port broke")
			w.close(ctx)
			w.retry.set(w.pause.next())
		}
	}
}

func (w *worker) change(ctx context.Context, s *spec) {
	if w.want != nil && s != nil && *w.want == *s {
		return
	}
	w.want, w.lastFail, w.refusals = s, "", 0
	w.pause.reset()
	w.retry.unset()
	if s == nil || s.problem != "" || s.protocol != w.serving {
		w.close(ctx)
	}
	if s == nil || s.problem != "" {
		w.dropFetch()
		if s != nil {
			w.fail(s.problem)
		}
		return
	}
	if w.front != nil {
		w.front.SetRoute(s.route)
	}
	w.converge(ctx)
}

// converge takes the next step from what is to what is wanted.
func (w *worker) converge(ctx context.Context) {
	if w.want == nil || w.want.problem != "" {
		return
	}
	if !w.want.protocol.Secure() || (w.shown != nil && w.held == w.want.certificate) {
		w.dropFetch()
		w.grace.unset()
		if w.front == nil {
			w.open()
		}
		return
	}
	switch {
	case w.front == nil || w.held.arn == w.want.certificate.arn:
		w.grace.unset()
	case !w.grace.isSet():
		w.grace.set(graceTime)
	}
	w.startFetch(ctx, w.want.certificate)
}

// startFetch asks for a certificate unless it is being asked for.
func (w *worker) startFetch(ctx context.Context, key certificateKey) {
	if w.results != nil && w.fetching == key {
		return
	}
	w.dropFetch()
	fetchCtx, cancel := context.WithCancel(ctx)
	results := make(chan fetched, 1)
	w.fetching, w.results, w.cancel = key, results, cancel
	w.work.Go(func() {
		defer cancel()
		certificate, err := w.fetch(fetchCtx, key.arn)
		results <- fetched{certificate: certificate, err: err}
	})
}

// dropFetch ends the fetch under way; nobody will read its result.
func (w *worker) dropFetch() {
	if w.results != nil {
		w.cancel()
		w.results, w.cancel, w.fetching = nil, nil, certificateKey{}
	}
}

func (w *worker) received(ctx context.Context, got fetched) {
	key := w.fetching
	w.dropFetch()
	if got.err != nil {
		w.notReceived(ctx, got.err)
		return
	}
	w.held, w.shown = key, got.certificate
	w.refusals, w.lastFail = 0, ""
	w.pause.reset()
	if w.front != nil {
		w.front.SetCertificate(w.shown)
	}
	w.milestone(StageKeyReceived, slog.String("arn", key.arn), slog.String("fingerprint", fingerprint(w.shown)))
	if w.front != nil {
		w.reportServing()
	}
	w.converge(ctx)
}

// notReceived applies the rule for keys to a fetch that went wrong.
func (w *worker) notReceived(ctx context.Context, err error) {
	w.world.Logger.Warn("certificate not received", "listener", w.port, "arn", w.want.certificate.arn, "error", err)
	var refused *control.Error
	if !errors.As(err, &refused) || !refused.Final() {
		w.refusals = 0
		w.fail(reason(err))
		w.retry.set(w.pause.next())
		return
	}
	if w.refusals++; w.refusals == 1 && w.front != nil {
		w.retry.set(confirmPause)
		return
	}
	w.fail(reason(err))
	w.close(ctx)
	w.retry.set(w.pause.next())
}

// open opens the port, for which everything is there.
func (w *worker) open() {
	listener, err := w.world.Listen("tcp", net.JoinHostPort("", strconv.Itoa(w.port)))
	if err != nil {
		w.world.Logger.Warn("port not opened", "listener", w.port, "error", err)
		w.fail("port cannot be opened")
		w.retry.set(w.pause.next())
		return
	}
	front, err := w.balancer.Open(balancer.FrontendConfig{
		Listener: listener, Protocol: w.want.protocol, Port: w.port, Route: w.want.route, Certificate: w.shown,
	})
	if err != nil {
		_ = listener.Close()
		w.fail(oneLine(err.Error()))
		return
	}
	w.front, w.serving, w.lastFail = front, w.want.protocol, ""
	w.pause.reset()
	w.reportServing()
}

// close closes the port if it is open, and forgets the certificate: what opens it again is fetched anew.
func (w *worker) close(ctx context.Context) {
	w.grace.unset()
	w.held, w.shown = certificateKey{}, nil
	if w.front == nil {
		return
	}
	front := w.front
	w.front, w.serving = nil, ""
	front.Stop()
	w.milestone(StageListenerClosed)
	w.work.Go(func() {
		drain, cancel := context.WithTimeout(ctx, drainTime)
		defer cancel()
		front.Close(drain)
	})
}

func (w *worker) reportServing() {
	w.milestone(StageServing, slog.String("protocol", string(w.serving)))
}

// fail reports a reason once, not at every attempt.
func (w *worker) fail(reason string) {
	if w.lastFail != reason {
		w.lastFail = reason
		w.milestone(StageListenerFailed, slog.String("reason", reason))
	}
}

func (w *worker) milestone(stage string, attrs ...slog.Attr) {
	attrs = append([]slog.Attr{slog.String("listener", strconv.Itoa(w.port))}, attrs...)
	w.world.Console.Milestone(stage, attrs...)
}
