package iam

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// certain closes the gaps between the checks of a delivery, each of which looked at an instant of its own: an LBVM that
// ended, and a listener that named the certificate only after that, would pass them one by one. It reads policy,
// certificate and instance again, in this order. No certificate's id is used twice and no instance that ended lives
// again, so all that the checks ask for held at the instant at which the policy is read here. That instant is the
// delivery's: a change of listeners that was answered before a request comes counts for it, one that is under way may
// count or not. Package e2e/model shows what goes wrong without it.
func (s *Service) certain(ctx context.Context, d *delivery, rec *certificateRecord) error {
	if err := s.mayDownload(ctx, d); err != nil {
		return err
	}
	now, err := s.certificateByARN(ctx, d.request.ARN)
	if err != nil && !isMissing(err) {
		return err
	}
	if err != nil || now.ID != rec.ID {
		return &keydelivery.Denial{
			Reason: keydelivery.ReasonNoSuchCertificate, Detail: "what has the ARN was replaced during the request",
			Wanted: "a server certificate that stays while it is delivered",
		}
	}
	return s.checker.StillGood(ctx, d.verified)
}
