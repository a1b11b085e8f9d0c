package elb

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Adopt takes over a load balancer of another cloud's records: it gets new VMs and an address of this cloud, which
// Adopt returns. Its role, certificates and back-end instances must be there. It is for replays.
func (s *Service) Adopt(ctx context.Context, lb LoadBalancer) (address string, err error) {
	const attempts = 16
	lb.LBVMs, lb.Trace = nil, ""
	for range attempts {
		proposed, err := proposeAddress(s.cfg.Addresses)
		if err != nil {
			return "", fmt.Errorf("adopt load balancer %s: %w", lb.Name, err)
		}
		lb.Address = proposed.String()
		err = s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
			if err := s.addresses.In(tx).Create(lb.Address, addressRecord{Key: lb.key()}); err != nil {
				return err
			}
			return s.records.In(tx).Put(lb.key(), lb)
		})
		if errors.Is(err, store.ErrExists) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("adopt load balancer %s: %w", lb.Name, err)
		}
		s.queue.add(lb.key())
		return lb.Address, nil
	}
	return "", model.Errorf("DependencyThrottle", http.StatusServiceUnavailable, "%w in %s", errAddressesUsed,
		s.cfg.Addresses)
}
