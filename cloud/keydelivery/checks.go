package keydelivery

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"slices"
	"time"
)

// Reason is why a delivery was denied. The operator learns it, the caller does not.
type Reason string

// The reasons, in the order of the protocol's checks. The HTTP signature (check 1) is the front door's.
const (
	ReasonMalformed            Reason = "request-malformed"
	ReasonNotRoleSession       Reason = "not-a-system-role-session" // 2
	ReasonCertificateMalformed Reason = "lbcert-malformed"          // 3
	ReasonCertificateKind      Reason = "lbcert-not-end-entity"     // 3
	ReasonIssuer               Reason = "lbcert-issuer"             // 3
	ReasonValidity             Reason = "lbcert-validity"           // 3
	ReasonRevoked              Reason = "lbcert-revoked"            // 3
	ReasonInstanceMismatch     Reason = "lbcert-of-other-instance"  // 4
	ReasonTimestamp            Reason = "timestamp"                 // 5
	ReasonSignature            Reason = "signature"                 // 6
	ReasonReplay               Reason = "replay"                    // 7
	ReasonPolicy               Reason = "policy"                    // 8
	ReasonNoSuchCertificate    Reason = "no-such-certificate"       // 9
	ReasonProfile              Reason = "profile-refused"
	ReasonOverload             Reason = "nonce-cache-full"
	ReasonInternal             Reason = "internal"
)

// Denial says why a request was refused. Detail is for the operator's journal only.
type Denial struct {
	Reason Reason
	Detail string
}

func (d *Denial) Error() string { return "delivery denied: " + string(d.Reason) + ": " + d.Detail }

// The bounds of a request's timestamp.
const (
	MaxAge   = 10 * time.Minute
	MaxAhead = 60 * time.Second
)

// CheckerConfig is what a Checker decides by.
type CheckerConfig struct {
	// IAMCert is the certificate that must have signed an LBCERT. Required.
	IAMCert *x509.Certificate
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Revoked tells whether an LBCERT was revoked; nil means that none was.
	Revoked func(ctx context.Context, cert *x509.Certificate) (bool, error)
	// MaxNonces bounds the nonces remembered; zero means 1,000,000. When they are used up within MaxAge, requests
	// are refused rather than accepted unseen.
	MaxNonces int
}

// Checker makes checks 3 to 7 of the protocol on requests that its caller has authenticated.
type Checker struct {
	cfg    CheckerConfig
	nonces *nonceCache
}

// NewChecker returns a Checker with an empty nonce cache.
func NewChecker(cfg CheckerConfig) *Checker {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxNonces == 0 {
		cfg.MaxNonces = 1_000_000
	}
	return &Checker{cfg: cfg, nonces: newNonceCache(cfg.MaxNonces, MaxAge+MaxAhead)}
}

// Verified is a request that passed checks 3 to 7. Only a Checker makes one, and only one can be answered.
type Verified struct {
	request    *Request
	key        *ecdsa.PublicKey
	instanceID string
}

// InstanceID returns the instance whose LBCERT signed the request.
func (v *Verified) InstanceID() string { return v.instanceID }

// ARN returns the ARN asked for.
func (v *Verified) ARN() string { return v.request.ARN }

// Verify makes the checks in the protocol's order. callerInstanceID is the instance of the role session that sent
// the request. The error is always a *Denial.
func (c *Checker) Verify(ctx context.Context, r *Request, callerInstanceID string) (*Verified, error) {
	now := c.cfg.Now()
	if r.Profile != Profile2 {
		return nil, &Denial{ReasonProfile, "this cloud answers profile 2 only"}
	}
	cert, key, err := c.certificate(ctx, r.CertPEM, now)
	if err != nil {
		return nil, err
	}
	instance := cert.Subject.CommonName
	if callerInstanceID == "" || subtle.ConstantTimeCompare([]byte(instance), []byte(callerInstanceID)) != 1 {
		return nil, &Denial{ReasonInstanceMismatch, "LBCERT is of " + instance + ", the caller is " + callerInstanceID}
	}
	if err := checkTimestamp(r.Timestamp, now); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(r.canonical())
	if !ecdsa.VerifyASN1(key, digest[:], r.Signature) {
		return nil, &Denial{ReasonSignature, "the signature over ARN, timestamp and nonce is not LBCERT's"}
	}
	switch c.nonces.add(instance+"&"+r.Nonce, now) {
	case nonceSeen:
		return nil, &Denial{ReasonReplay, "the nonce was used before"}
	case nonceFull:
		return nil, &Denial{ReasonOverload, "too many deliveries within " + (MaxAge + MaxAhead).String()}
	case nonceFresh:
	}
	return &Verified{request: r, key: key, instanceID: instance}, nil
}

// certificate is check 3.
func (c *Checker) certificate(
	ctx context.Context,
	text []byte,
	now time.Time,
) (*x509.Certificate, *ecdsa.PublicKey, error) {
	cert, err := parseCertificate(text)
	if err != nil {
		return nil, nil, &Denial{ReasonCertificateMalformed, err.Error()}
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, nil, &Denial{ReasonCertificateMalformed, "its key is not P-256"}
	}
	if cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 ||
		!slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return nil, nil, &Denial{ReasonCertificateKind, "want CA:FALSE, digitalSignature and clientAuth"}
	}
	if err := cert.CheckSignatureFrom(c.cfg.IAMCert); err != nil {
		return nil, nil, &Denial{ReasonIssuer, "not signed by IAMCERT: " + err.Error()}
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return nil, nil, &Denial{ReasonValidity, "valid from " + cert.NotBefore.Format(time.RFC3339) + " to " +
			cert.NotAfter.Format(time.RFC3339)}
	}
	if c.cfg.Revoked != nil {
		revoked, err := c.cfg.Revoked(ctx, cert)
		if err != nil {
			return nil, nil, &Denial{ReasonInternal, "ask for revocations: " + err.Error()}
		}
		if revoked {
			return nil, nil, &Denial{ReasonRevoked, "serial " + cert.SerialNumber.String()}
		}
	}
	return cert, key, nil
}

// checkTimestamp is check 5.
func checkTimestamp(text string, now time.Time) error {
	at, err := time.Parse(timestampLayout, text)
	if err != nil {
		return &Denial{ReasonTimestamp, "not of the form YYYY-MM-DDTHH:MM:SSZ"}
	}
	if age := now.Sub(at); age > MaxAge || age < -MaxAhead {
		return &Denial{ReasonTimestamp, "age " + age.Round(time.Second).String() + ", want at most " +
			MaxAge.String() + " and at most " + MaxAhead.String() + " ahead"}
	}
	return nil
}
