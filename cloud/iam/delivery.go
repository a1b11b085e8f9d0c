package iam

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// ActionDownload is the permission that a delivery needs on the certificate's ARN.
const ActionDownload = "iam:DownloadServerCertificate"

// ErrProfileRefused means that something of profile 1 was asked of a cloud that refuses it.
var ErrProfileRefused = errors.New("profile 1 is refused by this cloud; start it with --min-delivery-profile 1")

func newChecker(keys *keyring, cfg Config) *keydelivery.Checker {
	c := keydelivery.CheckerConfig{IAMCert: keys.authority.Certificate(), Now: cfg.Clock, Revoked: cfg.Revoked}
	if keys.rsaAuthority != nil {
		c.RSAIAMCert = keys.rsaAuthority.Certificate()
	}
	return keydelivery.NewChecker(c)
}

// IAMCertificatePEM returns profile 2's IAMCERT.
func (s *Service) IAMCertificatePEM() []byte { return s.keys.authority.CertificatePEM() }

// IAMCertificateOf returns the IAMCERT of a profile; ErrProfileRefused where the cloud has none for it.
func (s *Service) IAMCertificateOf(p keydelivery.Profile) ([]byte, error) {
	authority := s.keys.authorityOf(p)
	if authority == nil {
		return nil, fmt.Errorf("IAMCERT of profile %d: %w", p, ErrProfileRefused)
	}
	return authority.CertificatePEM(), nil
}

// SignLBCert signs an LBVM's public key as LBCERT: CN is the instance id, valid from now for days (1 to 3,650). A
// P-256 key gets one of profile 2, an RSA key one of profile 1, or ErrProfileRefused.
func (s *Service) SignLBCert(_ context.Context, instanceID string, pub crypto.PublicKey, days int) ([]byte, error) {
	const mostDays = 3650
	if days < 1 || days > mostDays {
		return nil, fmt.Errorf("sign LBCERT of %s: %d days, want 1 to %d", instanceID, days, mostDays)
	}
	profile := keydelivery.ProfileOf(pub)
	if profile == 0 {
		return nil, fmt.Errorf("sign LBCERT of %s: the key is neither RSA nor P-256", instanceID)
	}
	authority := s.keys.authorityOf(profile)
	if authority == nil {
		return nil, fmt.Errorf("sign LBCERT of %s: %w", instanceID, ErrProfileRefused)
	}
	now := s.cfg.Clock()
	return authority.SignLBCert(instanceID, pub, now, now.Add(time.Duration(days)*24*time.Hour))
}

// DownloadServerCertificate answers a delivery request. The front door has checked the HTTP signature (check 1); the
// other eight are made here in the protocol's order. The caller of a denied request learns AWS's code and nothing of
// the reason; the audit has it (delivery.denied), as it has every delivery (delivery.granted). No answer leaves
// before its record is on the disk.
func (s *Service) DownloadServerCertificate(
	ctx context.Context, form url.Values,
) (contentType string, body []byte, err error) {
	caller := authn.CallerFrom(ctx)
	d := &delivery{caller: &caller, arn: form.Get("CertificateArn")}
	rec, err := s.checkDelivery(ctx, d, form)
	if err == nil {
		// The grant's record goes to the disk while the answer is made.
		onDisk := s.beginAudit(ctx, d)
		body, err = s.sealAnswer(d, rec)
		if fault := onDisk(); fault != nil {
			return "", nil, deliveryError(internal(fault), d.arn)
		}
	}
	if err == nil {
		return "text/xml", body, nil
	}
	if !errors.As(err, &d.denial) {
		d.denial = internal(err)
	}
	if fault := s.beginAudit(ctx, d)(); fault != nil {
		return "", nil, deliveryError(internal(fault), d.arn)
	}
	return "", nil, deliveryError(d.denial, d.arn)
}

func internal(err error) *keydelivery.Denial {
	return &keydelivery.Denial{Reason: keydelivery.ReasonInternal, Detail: err.Error()}
}

// checkDelivery makes checks 2 to 9 and returns what is to be delivered. A refusal is a *keydelivery.Denial; any other
// error is the cloud's.
func (s *Service) checkDelivery(ctx context.Context, d *delivery, form url.Values) (*certificateRecord, error) {
	caller := d.caller
	if caller.Kind != authn.KindRole || !caller.System {
		return nil, &keydelivery.Denial{
			Reason: keydelivery.ReasonNotRoleSession,
			Detail: fmt.Sprintf("the caller is %q (%s, system account: %t)", caller.ARN, caller.Kind, caller.System),
			Wanted: "a role session of a system account, as an LBVM gets from its metadata service",
		}
	}
	request, err := keydelivery.ParseRequest(form)
	if err != nil {
		return nil, &keydelivery.Denial{
			Reason: keydelivery.ReasonMalformed, Detail: err.Error(), Wanted: "every field of the request, once",
		}
	}
	d.request = request
	d.verified, err = s.checker.Verify(ctx, request,
		keydelivery.Session{ID: caller.AccessKeyID, InstanceID: caller.InstanceID})
	if err != nil {
		return nil, err
	}
	if err := s.mayDownload(ctx, d); err != nil {
		return nil, err
	}
	rec, err := s.certificateByARN(ctx, request.ARN)
	if isMissing(err) {
		return nil, &keydelivery.Denial{
			Reason: keydelivery.ReasonNoSuchCertificate, Detail: "nothing has the ARN " + request.ARN,
			Wanted: "a server certificate with exactly this ARN",
		}
	}
	if err != nil {
		return nil, err
	}
	d.certificateID = rec.ID
	return rec, s.certain(ctx, d, rec)
}

// sealAnswer opens USERPK for the length of the call, seals it to LBCERT and returns the response's body.
func (s *Service) sealAnswer(d *delivery, rec *certificateRecord) ([]byte, error) {
	key, err := s.keys.authority.OpenAtRest(rec.sealPurpose(), rec.Key)
	if err != nil {
		return nil, fmt.Errorf("open key of %s: %w", rec.ID, err)
	}
	defer key.Wipe()
	answer, err := s.keys.authorityOf(d.verified.Profile()).Answer(d.verified, rec.pem(), key)
	if err != nil {
		return nil, err
	}
	return answer.MarshalXMLBody(d.caller.RequestID)
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
func (s *Service) mayDownload(ctx context.Context, d *delivery) error {
	set, err := s.policiesOf(ctx, d.caller)
	if err != nil {
		return err
	}
	q := s.request(d.caller, ActionDownload, nil)
	q.Resource = d.request.ARN
	if set.Evaluate(q).Allowed() {
		return nil
	}
	e := set.Explain(q)
	d.explanation = &e
	return &keydelivery.Denial{
		Reason: keydelivery.ReasonPolicy, Detail: e.Decision.Verdict.String() + " " + e.Decision.Because(ActionDownload),
		Wanted: strings.Join(e.Needed, "; "),
	}
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
