// Package stock is a load-balancer guest as somebody else would write it, from the description of the original's wire
// formats alone: plain HTTP, metadata without tokens, the fields of its user data, the reference client of
// fixtures/delivery, crypto/tls. Of the product's own code it has only what a kernel and its drivers would do for a
// guest: the floppy's driver and file system, which its machine hands it as files.
//
// Like the original it says nothing that the node listens to, reads its medium anew for every download, asks what to
// serve every few seconds, and reports health and numbers. Start reading at Run.
package stock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/fixtures/delivery"
)

// Machine is what a stock guest runs on.
type Machine struct {
	// Medium returns the files of the medium that is in the drive now.
	Medium func() (fs.FS, error)
	Log    *slog.Logger
}

// The pauses of a guest to which nobody has told others.
const (
	retryPause  = time.Second
	metricEvery = 5 // of the rounds that ask what to serve
)

// guest is a running stock guest.
type guest struct {
	machine  Machine
	cloud    *cloud
	instance string
	open     map[int]*listener // by port
}

// Run is the guest's life until ctx ends. What goes wrong is logged and tried again, as the original does.
func Run(ctx context.Context, m Machine) error {
	g := &guest{machine: m, open: map[int]*listener{}}
	for g.cloud == nil {
		if err := g.introduce(ctx); err != nil {
			m.Log.Warn("ask the metadata service", "error", err)
			if !pause(ctx, retryPause) {
				return ctx.Err()
			}
		}
	}
	for round := 0; ; round++ {
		wait, err := g.round(ctx, round%metricEvery == 0)
		if err != nil {
			m.Log.Warn("round", "error", err)
		}
		if !pause(ctx, max(wait, retryPause)) {
			return ctx.Err()
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// introduce learns who the guest is and where the cloud.
func (g *guest) introduce(ctx context.Context) error {
	text, err := metadata(ctx, "user-data")
	if err != nil {
		return err
	}
	values := map[string]string{}
	for pair := range strings.SplitSeq(text, ";") {
		if key, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok {
			values[key] = value
		}
	}
	if values["elb_service_url"] == "" || values["euare_service_url"] == "" || values["webservice_port"] == "" {
		return fmt.Errorf("user data lacks the cloud's address: %q", text)
	}
	if g.instance, err = metadata(ctx, "meta-data/instance-id"); err != nil {
		return err
	}
	port := ":" + values["webservice_port"]
	g.cloud = &cloud{balancing: "http://" + values["elb_service_url"] + port + "/services/LoadBalancing/",
		identity: "http://" + values["euare_service_url"] + port + "/services/Euare/"}
	return nil
}

// round asks what to serve, serves it and reports. It returns the pause until the next.
func (g *guest) round(ctx context.Context, metrics bool) (time.Duration, error) {
	d, err := g.cloud.describe(ctx, g.instance)
	if err != nil {
		return 0, err
	}
	wait := min(time.Duration(d.Interval)*time.Second, 2*time.Second)
	var errs []error
	wanted := map[int]bool{}
	for _, balancer := range d.Balancers {
		for _, l := range balancer.Listeners {
			wanted[l.Port] = true
			if err := g.serve(ctx, l, balancer); err != nil {
				errs = append(errs, fmt.Errorf("listener %d: %w", l.Port, err))
			}
		}
		if err := g.cloud.reportHealth(ctx, g.instance, g.check(ctx, balancer)); err != nil {
			errs = append(errs, err)
		}
	}
	for port, l := range g.open {
		if !wanted[port] {
			l.close()
			delete(g.open, port)
		}
	}
	if metrics {
		errs = append(errs, g.cloud.reportNumbers(ctx, g.instance, g.answered()))
	}
	return wait, errors.Join(errs...)
}

// download reads the medium and fetches the certificate and key behind an ARN.
func (g *guest) download(ctx context.Context, arn string) (*delivery.Opened, error) {
	files, err := g.machine.Medium()
	if err != nil {
		return nil, fmt.Errorf("read medium: %w", err)
	}
	text, err := fs.ReadFile(files, "credential")
	if err != nil {
		return nil, fmt.Errorf("read medium: %w", err)
	}
	credential, err := delivery.ReadCredential(text)
	if err != nil {
		return nil, err
	}
	client, err := delivery.NewClient1(credential)
	if err != nil {
		return nil, err
	}
	form, err := client.Request(arn, time.Now())
	if err != nil {
		return nil, err
	}
	body, err := g.cloud.download(ctx, form)
	if err != nil {
		return nil, err
	}
	return client.Open(body, arn)
}
