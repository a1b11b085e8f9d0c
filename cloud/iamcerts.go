package cloud

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// followIAMCerts has ec2 renew what a replaced IAMCERT signed, and iam ask ec2 before one is retired.
func (c *Cloud) followIAMCerts() {
	c.iam.OnRotation(c.ec2.RenewStale)
	c.iam.SetIAMCertificateUse(c.ec2.LBCertsOf)
	// One that another process replaced before this one listened.
	c.ec2.RenewStale()
}

// IAMCerts lists the cloud's IAMCERTs.
func (c *Cloud) IAMCerts(ctx context.Context) ([]operator.IAMCert, error) {
	list, err := c.iam.IAMCertificates(ctx)
	out := make([]operator.IAMCert, 0, len(list))
	for i := range list {
		out = append(out, operatorIAMCert(&list[i]))
	}
	return out, err
}

// RotateIAMCert makes a new IAMCERT for a profile.
func (c *Cloud) RotateIAMCert(ctx context.Context, profile int) (operator.IAMCert, error) {
	cert, err := c.iam.RotateIAMCertificate(ctx, keydelivery.Profile(profile), operator.PeerFrom(ctx))
	return operatorIAMCert(&cert), refuseIAMCert(err)
}

// RetireIAMCerts has one former IAMCERT accepted no more, or all when serial is empty.
func (c *Cloud) RetireIAMCerts(ctx context.Context, serial string, force bool) ([]operator.IAMCert, error) {
	serials := []string{serial}
	if serial == "" {
		list, err := c.iam.IAMCertificates(ctx)
		if err != nil {
			return nil, err
		}
		serials = nil
		for _, cert := range list {
			if cert.State == iam.IAMFormer {
				serials = append(serials, cert.Serial)
			}
		}
	}
	out := []operator.IAMCert{}
	for _, serial := range serials {
		cert, err := c.iam.RetireIAMCertificate(ctx, serial, force, operator.PeerFrom(ctx))
		if err != nil {
			return out, refuseIAMCert(err)
		}
		out = append(out, operatorIAMCert(&cert))
	}
	return out, nil
}

// refuseIAMCert marks what is wrong with the request itself.
func refuseIAMCert(err error) error {
	return refusal(err, iam.ErrNoIAMCertificate, iam.ErrIAMCertificateInUse, iam.ErrTooManyIAMCertificate,
		iam.ErrProfileRefused)
}

func operatorIAMCert(c *iam.IAMCertificate) operator.IAMCert {
	return operator.IAMCert{
		Serial: c.Serial, Profile: int(c.Profile), State: string(c.State), Created: c.Created, NotAfter: c.NotAfter,
		Replaced: c.Replaced, Retired: c.Retired, Users: c.Users, SealedKeys: c.SealedKeys,
	}
}
