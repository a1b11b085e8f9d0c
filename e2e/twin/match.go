package twin

import (
	"context"
	"fmt"

	"github.com/onsi/gomega/gcustom"
	"github.com/onsi/gomega/types"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// PresentCertificate succeeds when a *Client sees this very certificate in a verified handshake.
func PresentCertificate(want *Certificate) types.GomegaMatcher {
	return gcustom.MakeMatcher(func(c *Client) (bool, error) {
		leaf, err := c.Certificate(context.Background())
		if err != nil {
			return false, nil //nolint:nilerr // a listener that is not there yet presents nothing
		}
		return pki.Fingerprint(leaf) == want.Fingerprint(), nil
	}).WithTemplate("Expected listener {{.Actual}}\n{{.To}} present certificate {{.Data}}", want.Name)
}

// BeServing succeeds when a *Client gets a page of a backend.
func BeServing() types.GomegaMatcher {
	return gcustom.MakeMatcher(func(c *Client) (bool, error) {
		_, err := c.Get(context.Background(), "/")
		return err == nil, nil
	}).WithTemplate("Expected listener {{.Actual}}\n{{.To}} serve a page")
}

// BeClosed succeeds when nobody answers a *Client's handshake.
func BeClosed() types.GomegaMatcher {
	return gcustom.MakeMatcher(func(c *Client) (bool, error) {
		return c.Refused(context.Background())
	}).WithTemplate("Expected listener {{.Actual}}\n{{.To}} be closed")
}

// BeDeniedBecause succeeds when an *Attempt at a delivery was denied, for this reason, and its caller learnt
// neither the reason nor a key.
func BeDeniedBecause(reason keydelivery.Reason) types.GomegaMatcher {
	return gcustom.MakeMatcher(func(a *Attempt) (bool, error) {
		return a.Reason == reason && a.Key == nil && a.Told() == "", nil
	}).WithTemplate("Expected {{.Actual}}\n{{.To}} be denied because of {{.Data}}", reason)
}

// String names the listener in failures.
func (c *Client) String() string {
	leaf, err := "none", error(nil)
	if c.ca != nil {
		if cert, certErr := c.Certificate(context.Background()); certErr != nil {
			err = certErr
		} else {
			leaf = cert.Subject.CommonName + " " + pki.Fingerprint(cert)[:16]
		}
	}
	return fmt.Sprintf("%s:%d (certificate now: %s, error: %v)", c.lb.Name, c.port, leaf, err)
}
