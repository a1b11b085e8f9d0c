package twin

import (
	"context"
	"errors"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/e2e/invariant"
)

// AlwaysHolds checks an invariant beside the spec, until it ends, as Always does. That it could not be looked at, as
// while the cloud is down, breaks nothing.
func AlwaysHolds(one invariant.Invariant) *Invariant {
	ginkgo.GinkgoHelper()
	return Always(one.Name(), func(ctx context.Context) error {
		err := one.Check(ctx)
		if broken, ok := errors.AsType[*invariant.BrokenError](err); ok {
			return broken
		}
		return nil
	})
}

// CloudInvariants are what must be so at every moment of the twin's life, whatever a spec does to it. That no key lies
// outside its place is looked at when the twin ends (FindLeaks); what a spec's own requests made is its Ledger's.
func (t *Twin) CloudInvariants() []invariant.Invariant {
	return []invariant.Invariant{invariant.Identities{Status: t.Operator.Status}}
}

// KeepInvariants checks the cloud's invariants beside every spec of the suite or container that it stands in; of gives
// the twin, nil before it was started.
func KeepInvariants(of func() *Twin) bool {
	ginkgo.BeforeEach(func() {
		if t := of(); t != nil {
			for _, one := range t.CloudInvariants() {
				AlwaysHolds(one)
			}
		}
	})
	return true
}
