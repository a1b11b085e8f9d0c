package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/control"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/exchange"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
)

const (
	// maxClockError is how far the clock may be off: a delivery's request may be 60 s ahead of the cloud, and the
	// metadata service tells whole seconds.
	maxClockError = 30 * time.Second
	// expiryCheck is how often LBCERT's end is looked at, for the clock and the identity may change meanwhile.
	expiryCheck = time.Minute
)

// lbvm is a load balancer guest at work.
type lbvm struct {
	world      World
	instanceID string
	identities identities
	metadata   *metadata.Client
	roles      *metadata.Source
	control    *control.Client
	balancer   *balancer.Balancer
	listeners  *listeners
	intervals  intervals
}

// RunLBVM is the life of a load balancer guest: it waits for its medium, serves its load balancer's listeners, and
// returns when ctx ends (nil) or when it cannot go on (the reason is then on the console as the milestone "failed").
// Either way the last it does is World.PowerOff. It can go on without the cloud, but not without a valid identity.
func RunLBVM(ctx context.Context, world World) error {
	if err := world.Validate(); err != nil {
		return fmt.Errorf("run load balancer agent: %w", err)
	}
	world = world.withDefaults()
	vm := &lbvm{world: world}
	err := vm.run(ctx)
	return world.end(ctx, err)
}

// end reports how a guest's life ended and switches the machine off.
func (w World) end(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = nil
	}
	if err != nil {
		w.Logger.Error("guest stops", "error", err)
		w.Console.Milestone(StageFailed, slog.String("reason", reason(err)))
	}
	w.Console.Milestone(StagePowerOff)
	w.PowerOff()
	return err
}

func (vm *lbvm) run(ctx context.Context) error {
	vm.world.Console.Milestone(StageReadyForMedium)
	id, err := readMedium(ctx, vm.world)
	if err != nil {
		return err
	}
	vm.identities.replace(id)
	defer vm.identities.replace(nil)
	vm.instanceID = id.medium.Boot.InstanceID
	if err := vm.world.seed(id.medium.Boot); err != nil {
		return err
	}
	vm.tellRead(id)
	if err := vm.world.become(ctx, id.medium.Boot); err != nil {
		return err
	}

	boot := id.medium.Boot
	vm.metadata = metadata.New(metadata.Config{
		BaseURL: vm.world.MetadataURL, Dial: vm.world.Dial, Traceparent: boot.Traceparent,
	})
	defer vm.metadata.Close()
	vm.roles = metadata.NewSource(vm.metadata, vm.world.Now)
	vm.control, err = control.New(control.Config{
		IAM: boot.Endpoints["iam"], ELB: boot.Endpoints["elb"], Region: boot.Region, CAPEM: []byte(boot.CAPEM),
		Dial: vm.world.Dial, Now: vm.world.Now, Credentials: vm.roles, Traceparent: boot.Traceparent,
	})
	if err != nil {
		return &fatal{phrase: "medium: " + oneLine(err.Error()), cause: err}
	}
	defer vm.control.Close()

	connecting := vm.connectAhead(ctx)
	defer connecting()
	if err := vm.introduce(ctx); err != nil {
		return err
	}
	if err := id.valid(vm.world.Now()); err != nil {
		return err
	}
	return vm.serve(ctx)
}

// connectAhead makes the handshake with the cloud while the metadata service is asked. When it fails, as with a clock
// that is off yet, the first call makes another. stop ends it.
func (vm *lbvm) connectAhead(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var connecting sync.WaitGroup
	connecting.Go(func() {
		if err := vm.control.Connect(ctx); err != nil && ctx.Err() == nil {
			vm.world.Logger.Info("not connected ahead", "error", err)
		}
	})
	return func() {
		cancel()
		connecting.Wait()
	}
}

// introduce asks the metadata service for the time, for who we are and for the role's credentials, until it answers.
func (vm *lbvm) introduce(ctx context.Context) error {
	pause := backoff{first: firstRetry, max: maxRetry}
	for {
		role, err := vm.introduceOnce(ctx)
		if err == nil {
			vm.metadata.Rest()
			vm.world.Console.Milestone(StageCredentials, slog.String("role", role))
			return nil
		}
		if errors.As(err, new(*fatal)) {
			return err
		}
		vm.world.Logger.Warn("metadata service not asked", "error", err)
		if !sleep(ctx, pause.next()) {
			return context.Cause(ctx)
		}
	}
}

func (vm *lbvm) introduceOnce(ctx context.Context) (role string, err error) {
	if err := vm.syncClock(ctx); err != nil {
		return "", err
	}
	instanceID, err := vm.metadata.InstanceID(ctx)
	if err != nil {
		return "", fmt.Errorf("learn instance id: %w", err)
	}
	if instanceID != vm.instanceID {
		return "", &fatal{phrase: "medium is for another instance"}
	}
	credentials, err := vm.roles.Credentials(ctx)
	if err != nil {
		return "", err
	}
	return credentials.Role, nil
}

// syncClock sets the clock when it is far from the host's, as it is in a guest that slept or was copied.
func (vm *lbvm) syncClock(ctx context.Context) error {
	host, err := vm.metadata.ServerTime(ctx)
	if err != nil {
		return fmt.Errorf("learn time: %w", err)
	}
	off := host.Sub(vm.world.Now())
	if host.IsZero() || off.Abs() <= maxClockError || vm.world.SetClock == nil {
		return nil
	}
	if err := vm.world.SetClock(host); err != nil {
		return &fatal{phrase: "clock cannot be set", cause: err}
	}
	vm.world.Logger.Info("clock set", "off", off.Round(time.Second).String())
	return nil
}

// tellHandshake tells of one.
func (vm *lbvm) tellHandshake(port int, h balancer.Handshake) {
	attributes := []slog.Attr{slog.String("listener", strconv.Itoa(port))}
	if h.Failure != "" {
		attributes = append(attributes, slog.String("result", "failed"), slog.String("reason", h.Failure))
	} else {
		attributes = append(attributes, slog.String("result", "ok"), slog.String("version", h.Version),
			slog.String("cipher", h.Cipher), slog.String("sni", h.ServerName),
			slog.String("resumed", strconv.FormatBool(h.Resumed)))
	}
	vm.world.Console.Milestone(StageHandshakes, attributes...)
}

func (vm *lbvm) tellHandshakes(port int, h balancer.Handshakes) {
	attributes := []slog.Attr{
		slog.String("listener", strconv.Itoa(port)), slog.String("begun", strconv.FormatUint(h.Begun, 10)),
	}
	if h.Failed > 0 {
		attributes = append(attributes, slog.String("failed", strconv.FormatUint(h.Failed, 10)),
			slog.String("reason", h.Failure))
	}
	vm.world.Console.Milestone(StageHandshakes, attributes...)
}

// serve does the guest's work until ctx or the identity ends.
func (vm *lbvm) serve(ctx context.Context) error {
	var err error
	vm.balancer, err = balancer.New(balancer.Config{
		Dial: vm.world.Dial, Connections: vm.world.Connections, Logger: vm.world.Logger,
		Handshakes: vm.tellHandshakes, Handshake: vm.tellHandshake,
	})
	if err != nil {
		return err
	}
	defer vm.balancer.Close()

	group, ctx := errgroup.WithContext(ctx)
	vm.listeners = newListeners(vm.world, vm.balancer, vm.fetchCertificate)
	defer vm.listeners.wait()
	group.Go(func() error { return vm.followListeners(ctx) })
	group.Go(func() error { return vm.report(ctx) })
	group.Go(func() error { return vm.followMedium(ctx) })
	group.Go(func() error { return vm.watchExpiry(ctx) })
	return group.Wait()
}

// fetchCertificate is one delivery: the request signed with LBPK, the answer verified with IAMCERT and opened. A
// request that went to a connection that the cloud had closed is made anew, for no request may come twice.
func (vm *lbvm) fetchCertificate(ctx context.Context, arn string) (*tls.Certificate, error) {
	certificate, err := vm.fetchOnce(ctx, arn)
	if errors.Is(err, exchange.ErrStale) && ctx.Err() == nil {
		return vm.fetchOnce(ctx, arn)
	}
	return certificate, err
}

func (vm *lbvm) fetchOnce(ctx context.Context, arn string) (*tls.Certificate, error) {
	id, done := vm.identities.use()
	defer done()
	request, err := keydelivery.NewRequest(arn, id.medium.Identity(), vm.world.Now())
	if err != nil {
		return nil, fmt.Errorf("request certificate: %w", err)
	}
	answer, err := vm.control.Download(ctx, request)
	if err != nil {
		return nil, err
	}
	delivered, err := request.Open(answer, id.medium.IAMCertPEM, id.medium.Identity())
	if err != nil {
		return nil, fmt.Errorf("open delivery: %w", err)
	}
	return usable(delivered)
}

// followMedium takes up the identity of each new medium. One that does not fit changes nothing.
func (vm *lbvm) followMedium(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-vm.world.Medium.Changed():
		}
		err := vm.renew(ctx)
		if err != nil && ctx.Err() == nil {
			vm.world.Logger.Warn("medium refused", "error", err)
			vm.world.Console.Milestone(StageMediumRefused, slog.String("reason", reason(err)))
		}
	}
}

func (vm *lbvm) renew(ctx context.Context) error {
	id, err := readMedium(ctx, vm.world)
	if err != nil {
		return err
	}
	if id.medium.Boot.InstanceID != vm.instanceID {
		err = &fatal{phrase: "medium is for another instance"}
	} else {
		err = errors.Join(id.valid(vm.world.Now()), vm.world.seed(id.medium.Boot))
	}
	if err != nil {
		id.medium.LBKey.Wipe()
		return err
	}
	vm.identities.replace(id)
	vm.tellRead(id)
	return nil
}

// tellRead tells that the guest has taken the identity of a medium, and of which: another one may be in the drive by
// now.
func (vm *lbvm) tellRead(id *identity) {
	attributes := []slog.Attr{slog.String("instance", vm.instanceID)}
	if credential := id.medium.Boot.Credential; credential != "" {
		attributes = append(attributes, slog.String("credential", oneLine(credential)))
	}
	vm.world.Console.Milestone(StageMediumRead, attributes...)
}

// watchExpiry ends the guest when its identity ends: a new guest with a new one takes its place.
func (vm *lbvm) watchExpiry(ctx context.Context) error {
	for {
		left := vm.identities.expiry().Sub(vm.world.Now())
		if left <= 0 {
			return &fatal{phrase: "identity expired"}
		}
		if !sleep(ctx, min(left, expiryCheck)) {
			return nil
		}
	}
}
