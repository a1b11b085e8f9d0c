package cloud

import "context"

// IdentityCertificate returns the certificate by which the signatures of instances' identity documents are verified, in
// PEM.
func (c *Cloud) IdentityCertificate(ctx context.Context) (string, error) {
	return c.ec2.IdentityCertificate(ctx)
}
