package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

const (
	// renewAt is the part of NODECERT's life that is left when it is renewed.
	renewAt = 3
	// The pauses between attempts.
	shortRenewPause, longRenewPause = 200 * time.Millisecond, time.Minute
	// lookAgain bounds every wait, since the host's clock may jump.
	lookAgain = time.Hour
	// renewTimeout bounds one call.
	renewTimeout = 15 * time.Second
	// keyGrace is how long an old NODEPK is kept at least: credentials that were sealed to it may be on their way.
	keyGrace = 10 * time.Minute
)

// renewer renews NODECERT: when a third of its life is left, and when the cloud asks. The folder holds the next key
// before the cloud signs it, and the next certificate before the cloud is shown it, so that a node whose process ends
// at any point goes on where it was.
type renewer struct {
	ring *keyring
	// ask has the cloud sign the present node's next key.
	ask func(ctx context.Context, csrDER []byte) (certPEM []byte, err error)
	// show connects with the next NODECERT and returns when the cloud has taken it, with what makes all later calls go
	// that way.
	show func(ctx context.Context, next *identity, csrDER []byte) (use func(), err error)
	// needs says whether a NODEPK is needed yet.
	needs func(*ecdsa.PrivateKey) bool
	log   *slog.Logger

	asked chan struct{}
	mu    sync.Mutex // held by the one renewal
}

// wake asks for a renewal now.
func (r *renewer) wake() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// run renews when it is time, until ctx ends.
func (r *renewer) run(ctx context.Context) {
	forced, pause := false, time.Duration(0)
	for {
		r.ring.dropOld(time.Now(), keyGrace, r.needs)
		timer := time.NewTimer(r.wait(forced, pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.asked:
			forced = true
		case <-timer.C:
		}
		timer.Stop()
		if !forced && r.untilDue() > 0 {
			continue
		}
		forced = true // until it is done, whatever becomes of this attempt
		if err := r.renew(ctx); err != nil {
			if ctx.Err() == nil {
				pause = min(max(2*pause, shortRenewPause), longRenewPause)
				r.log.Warn("renew the node's certificate", "error", err, "retry", pause)
			}
			continue
		}
		forced, pause = false, 0
	}
}

func (r *renewer) wait(forced bool, pause time.Duration) time.Duration {
	d := r.untilDue()
	if forced {
		d = 0
	}
	if d = max(d, pause); r.ring.hasOld() {
		d = min(d, keyGrace)
	}
	return min(max(d, 0), lookAgain)
}

// untilDue is the time until NODECERT is to be renewed; not positive when it is, also when a renewal was begun.
func (r *renewer) untilDue() time.Duration {
	present, next := r.ring.now()
	if next != nil {
		return 0
	}
	return time.Until(renewalTime(present.cert))
}

// renewalTime is when a third of a certificate's life is left.
func renewalTime(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / renewAt)
}

// renew takes a renewal from wherever it is to its end.
func (r *renewer) renew(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, csr, err := r.ring.prepare()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	if next.cert == nil {
		certPEM, err := r.ask(ctx, csr)
		if err != nil {
			return fmt.Errorf("ask for the next certificate: %w", err)
		}
		if next, err = r.ring.accept(certPEM); err != nil {
			return err
		}
	}
	use, err := r.show(ctx, next, csr)
	if err != nil {
		// An offer that ended. One of a removed node is of no matter any more.
		if _, refused := nodelink.RefusalOf(err); refused {
			err = errors.Join(err, r.ring.dropNext())
		}
		return fmt.Errorf("connect with the next certificate: %w", err)
	}
	if err := r.ring.promote(time.Now()); err != nil {
		return err
	}
	r.log.Info("renewed the node's certificate", "serial", serialOf(next.cert),
		"ends", next.cert.NotAfter.UTC().Format(time.RFC3339))
	use()
	return nil
}

func serialOf(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// refused decides what to do when the cloud refuses a NODECERT of this node: see controller.Config.OnRefused.
func (r *renewer) refused(ctx context.Context, refusal *nodelink.RefusedError) (again bool, err error) {
	r.mu.Lock() // a renewal may be at the point where the cloud has the next one and this node not yet
	present, next := r.ring.now()
	r.mu.Unlock()
	switch {
	case refusal.Serial != serialOf(present.cert):
		return true, nil
	case refusal.Reason != nodelink.ReasonReplaced:
		return false, nil
	case next != nil && next.cert != nil:
		// An earlier process was at that point. If it is another reason, the present one is refused again.
		err := r.renew(ctx)
		if err != nil {
			r.log.Warn("finish the renewal of the node's certificate", "error", err)
		}
		return err == nil, nil
	}
	return false, fmt.Errorf("%w: %s, and this folder has %s only: it is used elsewhere too, or was brought back from a "+
		"copy that is older than the last renewal; %s", ErrIdentity, refusal.Detail, refusal.Serial, anew(present.id))
}
