package keydelivery

import (
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// The bounds of a request's timestamp.
const (
	MaxAge   = 10 * time.Minute
	MaxAhead = 60 * time.Second
)

// AnswerAgain is how long a profile 1 request may be repeated by the session that sent it first: the original guest
// signs whole seconds, so two requests of one second are the same.
const AnswerAgain = 60 * time.Second

// CheckerConfig is what a Checker decides by.
type CheckerConfig struct {
	// IAMCert is the certificate that must have signed a profile 2 LBCERT. Required where IAMCerts is nil.
	IAMCert *x509.Certificate
	// RSAIAMCert is the one that must have signed a profile 1 LBCERT; nil refuses profile 1.
	RSAIAMCert *x509.Certificate
	// IAMCerts takes the place of the two in a cloud whose IAM identity is rotated: the certificates of a profile, of
	// which one must have signed LBCERT, the one that signs now first; none refuses the profile. Nil means the two above.
	IAMCerts func(Profile) []*x509.Certificate
	// RetiredIAMCerts are those that were accepted once, for the operator's words alone; nil means none.
	RetiredIAMCerts func(Profile) []*x509.Certificate
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Revoked says why an LBCERT is refused though its IAMCERT signed it; an empty text means that it is good. Nil means
	// that all are. What it refused once, it must refuse for ever.
	Revoked func(ctx context.Context, cert *x509.Certificate) (why string, err error)
	// MaxNonces bounds the requests remembered; zero means 1,000,000. When they are used up within MaxAge, requests
	// are refused rather than accepted unseen.
	MaxNonces int
}

// Checker makes checks 3 to 7 of the protocol on requests that its caller has authenticated.
type Checker struct {
	cfg    CheckerConfig
	nonces *nonceCache
	signed signedCache
}

// NewChecker returns a Checker that remembers no request.
func NewChecker(cfg CheckerConfig) *Checker {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxNonces == 0 {
		cfg.MaxNonces = 1_000_000
	}
	if cfg.IAMCerts == nil {
		cfg.IAMCerts = cfg.fixed
	}
	if cfg.RetiredIAMCerts == nil {
		cfg.RetiredIAMCerts = func(Profile) []*x509.Certificate { return nil }
	}
	return &Checker{cfg: cfg, nonces: newNonceCache(cfg.MaxNonces, MaxAge+MaxAhead)}
}

// Session is the role session that sent a request, as checks 1 and 2 found it.
type Session struct {
	// ID tells the session from every other one: its access key's id.
	ID string
	// InstanceID is the instance that the cloud made the session for; empty for none.
	InstanceID string
}

// Verified is a request that passed checks 3 to 7. Only a Checker makes one, and only one can be answered.
type Verified struct {
	request    *Request
	key        crypto.PublicKey
	instanceID string
	cert       *x509.Certificate // LBCERT
	issuer     *x509.Certificate // the IAMCERT that signed it
}

// InstanceID returns the instance whose LBCERT signed the request.
func (v *Verified) InstanceID() string { return v.instanceID }

// ARN returns the ARN asked for.
func (v *Verified) ARN() string { return v.request.ARN }

// Profile returns the profile in which the answer must be.
func (v *Verified) Profile() Profile { return v.request.Profile }

// Certificate returns LBCERT. The caller must not change it.
func (v *Verified) Certificate() *x509.Certificate { return v.cert }

// Issuer returns the IAMCERT that signed LBCERT. It is the only one that the guest knows, so its key must sign the
// answer. The caller must not change it.
func (v *Verified) Issuer() *x509.Certificate { return v.issuer }

// Verify makes the checks in the protocol's order on a request that the session by sent. The error is always a
// *Denial.
func (c *Checker) Verify(ctx context.Context, r *Request, by Session) (*Verified, error) {
	now := c.cfg.Now()
	if r.Profile != Profile2 && len(c.cfg.IAMCerts(r.Profile)) == 0 {
		return nil, &Denial{
			ReasonProfile, fmt.Sprintf("the request is of profile %d", r.Profile),
			"profile 2, or a cloud that accepts profile 1 (--min-delivery-profile 1)",
		}
	}
	cert, issuer, err := c.certificate(ctx, r, now)
	if err != nil {
		return nil, err
	}
	instance := cert.Subject.CommonName
	if by.InstanceID == "" || subtle.ConstantTimeCompare([]byte(instance), []byte(by.InstanceID)) != 1 {
		return nil, &Denial{
			ReasonInstanceMismatch, fmt.Sprintf("LBCERT is of %q, the caller is %q", instance, by.InstanceID),
			"a role session of the instance in LBCERT's CN",
		}
	}
	if err := checkTimestamp(r.Timestamp, now); err != nil {
		return nil, err
	}
	if !verify(cert.PublicKey, r.canonical(), r.Signature) {
		return nil, &Denial{
			ReasonSignature, "Signature is not one of LBCERT's key over what was sent",
			r.Profile.signatureKind() + " by LBPK over " + fmt.Sprintf("%q", clip(string(r.canonical()))),
		}
	}
	if err := c.checkSeen(r, by, now); err != nil {
		return nil, err
	}
	return &Verified{request: r, key: cert.PublicKey, instanceID: instance, cert: cert, issuer: issuer}, nil
}

// signatureKind names how LBPK signs a request.
func (p Profile) signatureKind() string {
	if p == Profile1 {
		return "RSA PKCS#1 v1.5 with SHA-256"
	}
	return "ECDSA with SHA-256"
}

// certificate is check 3. It returns LBCERT and the IAMCERT that signed it.
func (c *Checker) certificate(ctx context.Context, r *Request, now time.Time) (
	cert, issuer *x509.Certificate, err error) {
	if cert, err = parseCertificate(r.CertPEM); err != nil {
		return nil, nil, &Denial{
			ReasonCertificateMalformed, err.Error(), "DelegationCertificate is base64 of one PEM certificate",
		}
	}
	if ProfileOf(cert.PublicKey) != r.Profile {
		return nil, nil, &Denial{
			ReasonCertificateMalformed, "its key is a " + cert.PublicKeyAlgorithm.String() + " key",
			fmt.Sprintf("a key of profile %d: %s", r.Profile, map[Profile]string{
				Profile1: "RSA 2048", Profile2: "P-256"}[r.Profile]),
		}
	}
	if cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 ||
		!slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return nil, nil, &Denial{
			ReasonCertificateKind, fmt.Sprintf("CA is %t, key usage %#x, extended key usage %v", cert.IsCA, int(cert.KeyUsage),
				cert.ExtKeyUsage), "CA:FALSE, digitalSignature and clientAuth",
		}
	}
	if issuer, err = c.issuer(cert, r.Profile, now); err != nil {
		return nil, nil, err
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return nil, nil, &Denial{
			ReasonValidity, "valid from " + cert.NotBefore.Format(time.RFC3339) + " to " +
				cert.NotAfter.Format(time.RFC3339), "a validity that covers " + now.UTC().Format(time.RFC3339),
		}
	}
	return cert, issuer, c.checkRevoked(ctx, cert)
}

func (c *Checker) checkRevoked(ctx context.Context, cert *x509.Certificate) error {
	if c.cfg.Revoked == nil {
		return nil
	}
	why, err := c.cfg.Revoked(ctx, cert)
	if err != nil {
		return &Denial{Reason: ReasonInternal, Detail: "ask for revocations: " + err.Error()}
	}
	if why != "" {
		return &Denial{
			ReasonRevoked, fmt.Sprintf("serial %x of %q: %s", cert.SerialNumber, clip(cert.Subject.CommonName), clip(why)),
			"the LBCERT that the cloud issued last to an instance that lives",
		}
	}
	return nil
}

// StillGood asks again whether the LBCERT of a verified request was revoked, or the IAMCERT that signed it retired.
// Between Verify and the answer other checks look at instants of their own; what was revoked or retired stays so, so an
// LBCERT that is good now was good at all of them. The error is a *Denial.
func (c *Checker) StillGood(ctx context.Context, v *Verified) error {
	if err := c.accepts(v); err != nil {
		return err
	}
	return c.checkRevoked(ctx, v.cert)
}

// checkTimestamp is check 5.
func checkTimestamp(text string, now time.Time) error {
	at, err := time.Parse(timestampLayout, text)
	// The parser takes fractions of a second too, which the layout has not.
	if err != nil || at.Format(timestampLayout) != text {
		return &Denial{ReasonTimestamp, fmt.Sprintf("Timestamp is %q", clip(text)), "the form YYYY-MM-DDTHH:MM:SSZ"}
	}
	if age := now.Sub(at); age > MaxAge || age < -MaxAhead {
		return &Denial{
			ReasonTimestamp, "age " + age.Round(time.Second).String(),
			"at most " + MaxAge.String() + " old and at most " + MaxAhead.String() + " ahead",
		}
	}
	return nil
}

// checkSeen is check 7.
func (c *Checker) checkSeen(r *Request, by Session, now time.Time) error {
	seen, again, wanted := "nonce\x00"+r.Nonce, time.Duration(0), "a nonce that was never used"
	if r.Profile == Profile1 {
		// There is no nonce, but one key makes one PKCS#1 v1.5 signature over a text.
		seen, again = "signature\x00"+string(r.Signature), AnswerAgain
		wanted = "the session that sent it first, within " + AnswerAgain.String() + ", or a later Timestamp"
	}
	switch c.nonces.add(by.InstanceID+"\x00"+seen, by.ID, again, now) {
	case nonceSeen:
		return &Denial{ReasonReplay, "the request was seen before", wanted}
	case nonceFull:
		return &Denial{
			ReasonOverload, fmt.Sprintf("%d deliveries within %s", c.cfg.MaxNonces, MaxAge+MaxAhead), "fewer of them",
		}
	case nonceFresh:
	}
	return nil
}

// clip bounds a text that a caller chose.
func clip(text string) string {
	const most = 300
	if len(text) > most {
		text = text[:most]
	}
	return text
}
