package elb

import (
	"context"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// CreateLoadBalancerListeners adds listeners. One that is there already, the same in every field, is no error.
func (s *Service) CreateLoadBalancerListeners(ctx context.Context, in *elbmodel.CreateLoadBalancerListenersInput) (
	*elbmodel.CreateLoadBalancerListenersOutput, error) {
	name := model.Val(in.LoadBalancerName)
	lb, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	listeners, err := parseListeners(in.Listeners, lb.AccountID, lb.Listeners)
	if err != nil {
		return nil, err
	}
	added := slices.DeleteFunc(listeners, func(l Listener) bool { return slices.Contains(lb.Listeners, l) })
	if err := s.checkCertificates(ctx, added); err != nil {
		return nil, err
	}
	err = s.changeListeners(ctx, name, func(lb *LoadBalancer) (err error) {
		lb.Listeners, err = parseListeners(in.Listeners, lb.AccountID, lb.Listeners)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.CreateLoadBalancerListenersOutput{}, nil
}

// DeleteLoadBalancerListeners closes ports. A port without a listener is no error, as on AWS.
func (s *Service) DeleteLoadBalancerListeners(ctx context.Context, in *elbmodel.DeleteLoadBalancerListenersInput) (
	*elbmodel.DeleteLoadBalancerListenersOutput, error) {
	err := s.changeListeners(ctx, model.Val(in.LoadBalancerName), func(lb *LoadBalancer) error {
		lb.Listeners = slices.DeleteFunc(lb.Listeners, func(l Listener) bool {
			return slices.Contains(in.LoadBalancerPorts, int64(l.Port))
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.DeleteLoadBalancerListenersOutput{}, nil
}

// SetLoadBalancerListenerSSLCertificate changes the certificate that a listener serves. The guest swaps it without
// dropping a connection.
func (s *Service) SetLoadBalancerListenerSSLCertificate(ctx context.Context,
	in *elbmodel.SetLoadBalancerListenerSSLCertificateInput) (
	*elbmodel.SetLoadBalancerListenerSSLCertificateOutput, error) {
	name, arn := model.Val(in.LoadBalancerName), model.Val(in.SSLCertificateId)
	set := func(lb *LoadBalancer) error {
		port := model.Val(in.LoadBalancerPort)
		if port < 1 || port > maxPort {
			return invalidParameter("LoadBalancerPort %d is not valid: it must be from 1 to %d", port, maxPort)
		}
		l := lb.listener(int(port))
		if l == nil {
			return elbmodel.ErrListenerNotFound("Load balancer %s has no listener on port %d", name, port)
		}
		if !l.secure() {
			return elbmodel.ErrInvalidConfigurationRequest(
				"The listener on port %d is %s and takes no certificate: only HTTPS and SSL listeners do", port, l.Protocol)
		}
		if err := checkCertificateARN(arn, lb.AccountID); err != nil {
			return err
		}
		l.CertificateARN = arn
		return nil
	}
	// Tried on a copy first, so that a wrong port is named before a certificate is looked for.
	lb, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := set(&lb); err != nil {
		return nil, err
	}
	if _, err := s.certificateRevision(ctx, arn); err != nil {
		return nil, err
	}
	if err := s.changeListeners(ctx, name, set); err != nil {
		return nil, err
	}
	return &elbmodel.SetLoadBalancerListenerSSLCertificateOutput{}, nil
}
