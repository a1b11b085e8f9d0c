package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/template"
)

// stageForkFailed tells that a guest was to be a fork and is booted cold instead: reason.
const stageForkFailed = "fork-failed"

// The shape of a machine that nobody said more about: the cloud's default instance type, and the images that it has.
const (
	defaultMemoryMB = 96
	defaultVCPUs    = 1
)

// shortestForkTimeout is the least that a fork is given to its first milestone, whatever the accelerator.
const shortestForkTimeout = 5 * time.Second

// longestForkTurn is how long a fork that runs keeps its turn at most. Until it serves it takes a core, and another one
// on that core would make both slower; one that does not serve by then waits for something else than a core.
const longestForkTurn = 3 * time.Second

// errForkFailed means that a fork did not come to life. Its guest is then booted cold.
var errForkFailed = errors.New("fork failed")

// openTemplates makes the manager of templates when guests are to be forked. When that cannot be, every guest is booted
// cold with that reason.
func (c *Controller) openTemplates() {
	if c.cfg.Guests != GuestsFork {
		return
	}
	var ok bool
	if c.forker, ok = c.cfg.Driver.(hypervisor.Forker); !ok {
		c.noForks = fmt.Errorf("%w: the driver cannot fork", errForkFailed)
		return
	}
	m, err := template.New(template.Config{
		Driver: c.cfg.Driver, Dir: c.cfg.TemplateDir, SocketDir: c.cfg.SocketDir, Logger: c.log,
		Admit: func(ctx context.Context, memoryMB int) (func(), error) {
			return c.admit(ctx, coldTurn, GuestsCold.cost().of(memoryMB))
		},
	})
	if err != nil {
		c.noForks = fmt.Errorf("%w: %w", errForkFailed, err)
		return
	}
	c.templates = m
	if a, ok := c.cfg.Driver.(hypervisor.Admitter); ok {
		a.AdmitSpares(func(ctx context.Context, memoryMB int) (func(), error) {
			return c.admit(ctx, spareTurn, GuestsFork.cost().of(memoryMB))
		}, c.admission.guestsStart)
	}
}

// warmTemplates begins to make the templates that the first guests will want, and keeps forks of them ready.
func (c *Controller) warmTemplates(ctx context.Context) {
	if c.templates == nil {
		return
	}
	for name, img := range c.images.all() {
		if slices.Contains(c.cfg.Untemplated, name) {
			continue
		}
		shape := c.shape(name, img, defaultMemoryMB, defaultVCPUs)
		c.templates.Warm(shape)
		c.keepReady(ctx, shape)
	}
}

// shape is that of a template of an image.
func (c *Controller) shape(name string, img image, memoryMB, vcpus int) template.Shape {
	shape := img.shape(name, memoryMB, vcpus)
	shape.Display = slices.Contains(c.cfg.Displays, name)
	return shape
}

// keepReady asks the driver to keep forks ready once there is a template.
func (c *Controller) keepReady(ctx context.Context, shape template.Shape) {
	if c.cfg.Pooled == 0 || shape.MemoryMB != defaultMemoryMB || shape.VCPUs != defaultVCPUs {
		return
	}
	c.workers.Go(func() {
		t, err := c.templates.Get(ctx, shape)
		if err == nil {
			err = c.prepare(ctx, shape, t, c.cfg.Pooled)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("keep forks ready", "image", shape.Flavour, "error", err)
		}
	})
}

func (c *Controller) prepare(ctx context.Context, shape template.Shape, t hypervisor.Template, n int) error {
	return c.forker.Prepare(ctx, shape.Spec(), t, n, template.Rehearsal(c.cfg.Entropy))
}

// reject has a template made anew that the driver would not fork, and the forks of it that are ready dropped.
func (c *Controller) reject(ctx context.Context, p *forkPlan, cause error) {
	c.templates.Reject(p.shape, p.template, cause)
	if c.cfg.Pooled == 0 {
		return
	}
	if err := c.prepare(ctx, p.shape, p.template, 0); err != nil {
		c.log.Warn("drop forks that were ready", "image", p.shape.Flavour, "error", err)
	}
	c.keepReady(ctx, p.shape)
}

// closeTemplates ends what is being made and drops what is kept ready.
func (c *Controller) closeTemplates() {
	if c.templates == nil {
		return
	}
	if err := c.templates.Close(); err != nil {
		c.log.Warn("close templates", "error", err)
	}
}

// forkTimeout is how long a fork may take to its first milestone.
func (c *Controller) forkTimeout() time.Duration {
	const share = 4 // of a cold boot
	return max(c.bootTimeout()/share, shortestForkTimeout)
}

// plan says how the guest is to start: as a fork of the template in the plan, or otherwise.
func (g *guest) plan(ctx context.Context, inst *nodelink.Instance, img image) (GuestMode, *forkPlan, error) {
	switch {
	case g.c.cfg.Guests != GuestsFork:
		return g.c.cfg.Guests, nil, nil
	case g.noFork, keepsMedium(inst): // an original guest knows nothing of templates
		return GuestsCold, nil, nil
	case g.c.templates == nil:
		g.forkFailed(g.c.noForks)
		return GuestsCold, nil, nil
	}
	shape := g.c.shape(inst.GetImage(), img, int(inst.GetMemoryMb()), int(inst.GetVcpus()))
	t, err := g.c.templates.Get(ctx, shape)
	switch {
	case err == nil:
		return GuestsFork, &forkPlan{shape: shape, template: t}, nil
	case ctx.Err() != nil:
		return "", nil, ctx.Err()
	}
	g.forkFailed(err)
	return GuestsCold, nil, nil
}

// forkPlan is what a fork is made of.
type forkPlan struct {
	shape    template.Shape
	template hypervisor.Template
}

// fork starts the machine as a copy of the template.
func (g *guest) fork(ctx, life context.Context, spec hypervisor.Spec, p *forkPlan) error {
	spec.Cmdline = p.shape.Spec().Cmdline
	machine, err := g.c.forker.Fork(life, spec, p.template)
	if errors.Is(err, hypervisor.ErrTemplate) {
		g.c.reject(ctx, p, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errForkFailed, err)
	}
	g.machine = machine
	return nil
}

// forkFailed tells why the guest is no fork.
func (g *guest) forkFailed(err error) {
	g.noFork = true
	g.log.Warn("fork failed; the guest is booted cold", "error", err)
	g.tell(stageForkFailed, map[string]string{"reason": clip(err.Error())})
}

// undoFork ends a fork that did not come to life, so that its guest can be booted cold as if nothing had been.
func (g *guest) undoFork(ctx context.Context, cause error) error {
	g.forkFailed(cause)
	g.seat.leave()
	g.bootTimer.Stop()
	if g.machine != nil {
		if !killUntilGone(ctx, g.machine, g.log) {
			return errClosing
		}
		g.unexposeAll()
		g.detach()
		g.machine = nil
	}
	g.eject = false // the drive is gone
	g.wipeMedium("fork failed")
	g.spoke, g.reads, g.failure, g.how = false, 0, "", ""
	g.record.Started, g.record.Forked = false, false
	return g.cutConsole() // what it said is in the reason
}
