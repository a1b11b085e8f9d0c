package scale

import (
	"errors"
	"fmt"
)

// ErrGrowth means that a load balancer costs more the more of them there are.
var ErrGrowth = errors.New("the cost of a load balancer grows with their number")

// CheckGrowth returns an error, ErrGrowth, when a load balancer of a later row took more than most times as much of the
// processor to start, or more than most times as much memory, as one of the first row. The processor's time and not the
// clock's is compared, since other programs share the machine.
func (r Report) CheckGrowth(most float64) error {
	if len(r.Rows) < 2 {
		return fmt.Errorf("compare what load balancers cost: %d rows; at least 2 are needed, see --steps", len(r.Rows))
	}
	var errs []error
	first := r.Rows[0]
	for _, row := range r.Rows[1:] {
		for _, cost := range []struct {
			what       string
			first, now float64
		}{
			{"ms of CPU to start", first.CPUMillisPerStart, row.CPUMillisPerStart},
			{"KB of memory", first.GuestKB, row.GuestKB},
		} {
			if cost.first > 0 && cost.now > most*cost.first {
				errs = append(errs, fmt.Errorf("%w: at %d load balancers one takes %.1f %s, %.2f times as much as at %d; "+
					"expected at most %g times", ErrGrowth, row.LoadBalancers, cost.now, cost.what, cost.now/cost.first,
					first.LoadBalancers, most))
			}
		}
	}
	return errors.Join(errs...)
}
