package iam

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// ActionDownload is the permission that a delivery needs on the certificate's ARN.
const ActionDownload = "iam:DownloadServerCertificate"

// IAMCertificatePEM returns IAMCERT.
func (s *Service) IAMCertificatePEM() []byte { return s.keys.authority.CertificatePEM() }

// SignLBCert signs an LBVM's public key as LBCERT: CN is the instance id, valid from now for days (1 to 3,650).
func (s *Service) SignLBCert(_ context.Context, instanceID string, pub crypto.PublicKey, days int) ([]byte, error) {
	const mostDays = 3650
	if days < 1 || days > mostDays {
		return nil, fmt.Errorf("sign LBCERT of %s: %d days, want 1 to %d", instanceID, days, mostDays)
	}
	now := s.cfg.Clock()
	return s.keys.authority.SignLBCert(instanceID, pub, now, now.Add(time.Duration(days)*24*time.Hour))
}

// DownloadServerCertificate answers a delivery request. The front door has checked the HTTP signature (check 1); the
// other eight are made here in the protocol's order. The caller of a denied request learns AWS's code and nothing of
// the reason; the journal has it (delivery.denied), as it has every delivery (delivery.granted).
func (s *Service) DownloadServerCertificate(
	ctx context.Context, form url.Values,
) (contentType string, body []byte, err error) {
	caller := authn.CallerFrom(ctx)
	arn := form.Get("CertificateArn")
	answer, err := s.deliver(ctx, &caller, form)
	if err == nil {
		body, err = answer.MarshalXMLBody(caller.RequestID)
	}
	if err != nil {
		var denial *keydelivery.Denial
		if !errors.As(err, &denial) {
			denial = &keydelivery.Denial{Reason: keydelivery.ReasonInternal, Detail: err.Error()}
		}
		s.recordDelivery(ctx, &caller, "delivery.denied", arn, denial)
		return "", nil, deliveryError(denial, arn)
	}
	s.recordDelivery(ctx, &caller, "delivery.granted", arn, nil)
	return "text/xml", body, nil
}

// deliver makes checks 2 to 9 and the answer. A refusal is a *keydelivery.Denial; any other error is the cloud's.
func (s *Service) deliver(
	ctx context.Context, caller *authn.Caller, form url.Values,
) (*keydelivery.Answer, error) {
	if caller.Kind != authn.KindRole || !caller.System {
		return nil, &keydelivery.Denial{Reason: keydelivery.ReasonNotRoleSession, Detail: "the caller is " + caller.ARN}
	}
	request, err := keydelivery.ParseRequest(form)
	if err != nil {
		return nil, &keydelivery.Denial{Reason: keydelivery.ReasonMalformed, Detail: err.Error()}
	}
	verified, err := s.checker.Verify(ctx, request, caller.InstanceID)
	if err != nil {
		return nil, err
	}
	if err := s.mayDownload(ctx, caller, request.ARN); err != nil {
		return nil, err
	}
	rec, err := s.certificateByARN(ctx, request.ARN)
	if isMissing(err) {
		return nil, &keydelivery.Denial{Reason: keydelivery.ReasonNoSuchCertificate, Detail: request.ARN}
	}
	if err != nil {
		return nil, err
	}
	key, err := s.keys.authority.OpenAtRest(rec.sealPurpose(), rec.Key)
	if err != nil {
		return nil, fmt.Errorf("open key of %s: %w", rec.ID, err)
	}
	defer key.Wipe()
	return s.keys.authority.Answer(verified, rec.pem(), key)
}

// pem is the leaf with its chain.
func (r *certificateRecord) pem() []byte {
	text := r.Body + "\n"
	if r.Chain != "" {
		text += r.Chain + "\n"
	}
	return []byte(text)
}

// mayDownload is check 8. The certificate is the user's and the role the system's: the grant that elb put into the
// role stands for the leave of the user, who named the certificate in a listener.
func (s *Service) mayDownload(ctx context.Context, caller *authn.Caller, arn string) error {
	set, err := s.policiesOf(ctx, caller)
	if err != nil {
		return err
	}
	q := s.request(caller, ActionDownload, nil)
	q.Resource = arn
	if set.Evaluate(q).Allowed() {
		return nil
	}
	return &keydelivery.Denial{Reason: keydelivery.ReasonPolicy, Detail: set.Explain(q).String()}
}

// deliveryError is what the caller learns. Everything that a guest could probe with is one and the same answer.
func deliveryError(d *keydelivery.Denial, arn string) error {
	var e *model.Error
	switch d.Reason {
	case keydelivery.ReasonNoSuchCertificate:
		e = model.Errorf("NoSuchEntity", http.StatusBadRequest, "Server certificate %s cannot be found.", arn)
	// What is wrong with the form alone is no secret, and a client that is being written needs the field's name.
	case keydelivery.ReasonMalformed:
		e = model.Errorf("ValidationError", http.StatusBadRequest, "%s", d.Detail)
	case keydelivery.ReasonInternal, keydelivery.ReasonOverload:
		e = model.Errorf("InternalFailure", http.StatusInternalServerError,
			"The request could not be answered because of an internal failure.")
	default:
		e = model.Errorf("NotAuthorized", http.StatusForbidden,
			"The caller is not authorized to download the server certificate.")
	}
	e.Cause = d
	return e
}

func (s *Service) recordDelivery(
	ctx context.Context, c *authn.Caller, kind, arn string, d *keydelivery.Denial,
) {
	const mostARN = 2048
	if len(arn) > mostARN {
		arn = arn[:mostARN]
	}
	attributes := map[string]string{
		"requestId": c.RequestID, "caller": c.ARN, "instance": c.InstanceID, "arn": arn, "accessKeyId": c.AccessKeyID,
	}
	if d != nil {
		attributes["reason"], attributes["detail"] = string(d.Reason), d.Detail
	}
	s.cfg.Journal.Record(ctx, journal.Event{
		Time: s.cfg.Clock(), Kind: kind, Subject: c.InstanceID, Attributes: attributes,
	})
}
