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

// IAMCertificatePEM returns profile 2's IAMCERT that signs now.
func (s *Service) IAMCertificatePEM() []byte {
	return s.keys.authorityOf(keydelivery.Profile2).CertificatePEM()
}

// IAMCertificateOf returns the IAMCERT of a profile that signs now; ErrProfileRefused where the cloud has none for it.
func (s *Service) IAMCertificateOf(p keydelivery.Profile) ([]byte, error) {
	authority := s.keys.authorityOf(p)
	if authority == nil {
		return nil, fmt.Errorf("IAMCERT of profile %d: %w", p, ErrProfileRefused)
	}
	return authority.CertificatePEM(), nil
}

// The shortest and the longest validity of an LBCERT.
const (
	MinLBCertLife = time.Second
	MaxLBCertLife = keydelivery.MaxDays * 24 * time.Hour
)

// SignLBCert signs an LBVM's public key as LBCERT: CN is the instance id, valid from now for life (MinLBCertLife to
// MaxLBCertLife). A P-256 key gets one of profile 2, an RSA key one of profile 1, or ErrProfileRefused. It returns
// LBCERT and the IAMCERT that signed it, which its guest needs, both in PEM.
func (s *Service) SignLBCert(_ context.Context, instanceID string, pub crypto.PublicKey, life time.Duration) (
	lbCert, iamCert []byte, err error) {
	if life < MinLBCertLife || life > MaxLBCertLife {
		return nil, nil, fmt.Errorf("sign LBCERT of %s: a life of %s, want %s to %s", instanceID, life, MinLBCertLife,
			MaxLBCertLife)
	}
	profile := keydelivery.ProfileOf(pub)
	if profile == 0 {
		return nil, nil, fmt.Errorf("sign LBCERT of %s: the key is neither RSA nor P-256", instanceID)
	}
	// Asked once: another one may sign a moment later.
	authority := s.keys.authorityOf(profile)
	if authority == nil {
		return nil, nil, fmt.Errorf("sign LBCERT of %s: %w", instanceID, ErrProfileRefused)
	}
	now := s.cfg.Clock()
	lbCert, err = authority.SignLBCert(instanceID, pub, now, now.Add(life))
	return lbCert, authority.CertificatePEM(), err
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
		body, err = s.sealAnswer(ctx, d, rec)
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

// sealAnswer opens USERPK for the length of the call, seals it to LBCERT and returns the response's body. The identity
// that signed LBCERT signs the answer, be it a former one: its guest knows no other.
func (s *Service) sealAnswer(ctx context.Context, d *delivery, rec *certificateRecord) ([]byte, error) {
	iamCert := d.verified.Issuer()
	authority := s.keys.set(d.verified.Profile()).holding(iamCert)
	if authority == nil {
		return nil, &keydelivery.Denial{
			Reason: keydelivery.ReasonIssuer, Wanted: "an LBCERT of an IAMCERT that is accepted",
			Detail: fmt.Sprintf("the IAMCERT of serial %x was retired during the request", iamCert.SerialNumber),
		}
	}
	key, err := s.openDelivered(ctx, rec)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	answer, err := authority.Answer(d.verified, rec.pem(), key)
	if err != nil {
		return nil, err
	}
	return answer.MarshalXMLBody(d.caller.RequestID)
}

// openDelivered opens the certificate's USERPK. What is in memory may still have it sealed to an IAMCERT that is
// retired by now: it is then read anew.
func (s *Service) openDelivered(ctx context.Context, rec *certificateRecord) (keydelivery.Secret, error) {
	key, err := s.openUserKey(rec)
	if err == nil {
		return key, nil
	}
	now, rerr := s.certificates.Get(ctx, recordKey(rec.AccountID, rec.Name))
	if rerr != nil || now.ID != rec.ID || now.Key == rec.Key {
		return nil, err
	}
	return s.openUserKey(&now)
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
	q := s.request(ctx, d.caller, ActionDownload, nil)
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
