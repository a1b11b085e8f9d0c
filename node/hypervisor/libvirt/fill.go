package libvirt

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// startFilling begins to fill the pools until the driver closes.
func (d *Driver) startFilling() {
	ctx, cancel := context.WithCancel(context.Background())
	d.ops.Add(1)
	go func() {
		defer d.ops.Done()
		defer cancel()
		d.fillPools(ctx)
	}()
}

func (d *Driver) fillPools(ctx context.Context) {
	select {
	case <-d.quit:
		return
	case <-d.warm.done:
	}
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-d.quit:
			return
		case <-d.pools.work:
			rest.Reset(d.pools.rest())
			continue
		case <-rest.C:
		}
		for t, shape, ok := d.pools.next(); ok && !d.closing(); t, shape, ok = d.pools.next() {
			if err := d.fill(ctx, t, shape); err != nil {
				d.cfg.Logger.Warn("no machine kept ready", "template", t.State, "error", err)
				d.pools.jam(t)
			}
		}
	}
}

func (d *Driver) closing() bool {
	select {
	case <-d.quit:
		return true
	default:
		return false
	}
}

// spareMAC is what the card of a copy has until it has taken over the template's state, in which the template's is.
const spareMAC = "02:00:00:00:00:01"

// fill adds one machine to a pool.
func (d *Driver) fill(ctx context.Context, t hypervisor.Template, shape hypervisor.Spec) error {
	const unique = 12
	mark := strings.ToLower(rand.Text()[:unique])
	if err := checkTemplate(shape, t); err != nil {
		return err
	}
	network, err := stateHasNIC(t.State)
	if err != nil {
		return err
	}
	shape.ConsoleLog = filepath.Join(d.forkDir(), mark+".log")
	if network {
		shape.NIC = hypervisor.NIC{MAC: spareMAC, Socket: filepath.Join(d.forkDir(), mark)}
	}
	p := plan{name: d.cfg.NamePrefix + poolMark + mark, spec: shape, kind: pooled, ram: t.Memory}
	domain, err := d.copy(ctx, &p, t)
	if err != nil {
		return errors.Join(plain(err), removeFile(shape.ConsoleLog))
	}
	err = errors.Join(d.getReady(domain, p, t), domain.Free())
	switch {
	case errors.Is(err, errClosed):
		return d.discard([]plan{p})
	case errors.Is(err, errRehearsal):
		d.cfg.Logger.Warn("a machine to be kept ready did not rehearse", "template", t.State, "error", err)
		return d.discard([]plan{p})
	case err != nil:
		return errors.Join(plain(err), d.discard([]plan{p}))
	}
	if !d.pools.put(t, p) {
		return d.discard([]plan{p})
	}
	return nil
}
