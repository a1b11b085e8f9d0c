package controller

import "context"

// takeTurn waits until a start may begin: in this node, and for a boot among all that boot guests on this host. The
// error is ctx's, or ErrNoRoom.
func (c *Controller) takeTurn(ctx context.Context, kind turn, memoryMB int) (*seat, error) {
	s, err := c.admission.enter(ctx, kind, memoryMB)
	if err != nil || kind != coldTurn {
		return s, err
	}
	// A process that has stood still since it took its turn must not keep others from booting for ever.
	patience, cancel := context.WithTimeout(ctx, c.bootTimeout())
	defer cancel()
	done, err := c.cfg.BootTurn(patience)
	switch {
	case err == nil:
		s.onHost = done
	case ctx.Err() != nil:
		s.leave()
		return nil, ctx.Err()
	default:
		c.log.Warn("a guest boots without a turn of the host's", "error", err)
	}
	return s, nil
}

// admit is takeTurn for those who hold a turn until they call release.
func (c *Controller) admit(ctx context.Context, kind turn, memoryMB int) (release func(), err error) {
	s, err := c.takeTurn(ctx, kind, memoryMB)
	if err != nil {
		return nil, err
	}
	return s.leave, nil
}

// giveOn gives on what the guest's start holds of the host and does not need any more from a milestone on.
func (g *guest) giveOn(stage string) {
	switch {
	case stage == stageServing:
		g.seat.leave()
	case stage == stageFailed, stage == stageNetwork && !g.record.Forked: // a fork has most of its work before it then
		g.seat.boot()
	}
}
