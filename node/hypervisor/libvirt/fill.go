package libvirt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
			if err := d.fill(ctx, t, shape); err != nil && !d.closing() {
				d.cfg.Logger.Warn("no machine kept ready", "template", t.State, "error", err)
				d.pools.jam(t)
			}
		}
	}
}

// AdmitSpares has admit asked for room before each machine of a pool, and rehearsals wait for guests that start.
func (d *Driver) AdmitSpares(admit func(ctx context.Context, memoryMB int) (release func(), err error),
	guestsStart func() bool,
) {
	d.pools.mu.Lock()
	defer d.pools.mu.Unlock()
	d.pools.admit, d.pools.guestsStart = admit, guestsStart
}

// admitSpare waits for room for a machine of a pool, or for the driver's Close.
func (d *Driver) admitSpare(memoryMB int) (release func(), err error) {
	d.pools.mu.Lock()
	admit := d.pools.admit
	d.pools.mu.Unlock()
	if admit == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-d.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	if release, err = admit(ctx, memoryMB); err != nil {
		return nil, fmt.Errorf("wait for room for a machine to be kept ready: %w", err)
	}
	return release, nil
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
	release, err := d.admitSpare(shape.MemoryMB)
	if err != nil {
		return err
	}
	defer release()
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
