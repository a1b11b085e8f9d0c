package keydelivery

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// fixed is IAMCerts of a cloud whose IAM identities stay as they are.
func (c CheckerConfig) fixed(p Profile) []*x509.Certificate {
	cert := c.IAMCert
	if p == Profile1 {
		cert = c.RSAIAMCert
	}
	if cert == nil {
		return nil
	}
	return []*x509.Certificate{cert}
}

// issuer returns which of the profile's IAMCERTs signed an LBCERT. All of them have one subject, so that only the
// signature tells; there are as many as are between a rotation and the retirement of what was before, seldom more
// than two.
func (c *Checker) issuer(cert *x509.Certificate, p Profile, now time.Time) (*x509.Certificate, error) {
	accepted := c.cfg.IAMCerts(p)
	var why error
	for _, iamCert := range accepted {
		err := c.signed.by(cert, iamCert)
		if err == nil {
			err = covers(iamCert, now)
		}
		if err == nil {
			return iamCert, nil
		}
		if why == nil {
			why = err
		}
	}
	detail := fmt.Sprintf("issuer %q, and IAMCERT's key did not sign it: %s", clip(cert.Issuer.String()), why)
	for _, retired := range c.cfg.RetiredIAMCerts(p) {
		if cert.CheckSignatureFrom(retired) == nil {
			detail = wasRetired(retired)
		}
	}
	return nil, notIssued(p, accepted, detail)
}

// accepts says whether the IAMCERT of a verified request is one of the profile's still. That it signed LBCERT was
// found before and cannot change.
func (c *Checker) accepts(v *Verified) error {
	accepted := c.cfg.IAMCerts(v.request.Profile)
	if !slices.ContainsFunc(accepted, v.issuer.Equal) {
		return notIssued(v.request.Profile, accepted, wasRetired(v.issuer))
	}
	if err := covers(v.issuer, c.cfg.Now()); err != nil {
		return notIssued(v.request.Profile, accepted, err.Error())
	}
	return nil
}

// covers says whether an IAMCERT is valid now.
func covers(iamCert *x509.Certificate, now time.Time) error {
	if now.Before(iamCert.NotBefore) || now.After(iamCert.NotAfter) {
		return fmt.Errorf("the IAMCERT of serial %x is valid from %s to %s only", iamCert.SerialNumber,
			iamCert.NotBefore.Format(time.RFC3339), iamCert.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func wasRetired(iamCert *x509.Certificate) string {
	return fmt.Sprintf("signed by the IAMCERT of serial %x, which was retired", iamCert.SerialNumber)
}

func notIssued(p Profile, accepted []*x509.Certificate, detail string) error {
	var serials []string
	for _, iamCert := range accepted {
		serials = append(serials, fmt.Sprintf("%x", iamCert.SerialNumber))
	}
	return &Denial{ReasonIssuer, detail,
		fmt.Sprintf("a signature by profile %d's IAMCERT, serial %s", p, strings.Join(serials, " or "))}
}
