package iam

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// The audit's two kinds of event.
const (
	EventDelivered = "delivery.granted"
	EventDenied    = "delivery.denied"
)

// delivery is one request on its way through the checks, as far as it got.
type delivery struct {
	caller        *authn.Caller
	arn           string // as it was sent
	request       *keydelivery.Request
	verified      *keydelivery.Verified
	certificateID string
	explanation   *policy.Explanation
	denial        *keydelivery.Denial
}

// beginAudit records the decision on a delivery; onDisk returns when the record is on the disk. A grant whose answer
// could not be made after all is followed by a denial with the same request id.
func (s *Service) beginAudit(ctx context.Context, d *delivery) (onDisk func() error) {
	kind := EventDelivered
	if d.denial != nil {
		kind = EventDenied
	}
	wait := s.cfg.Journal.BeginSynced(ctx, journal.Event{
		Time: s.cfg.Clock(), Kind: kind, Subject: d.caller.InstanceID, Attributes: d.attributes(),
	})
	return func() error {
		if err := wait(); err != nil {
			return fmt.Errorf("audit delivery: %w", err)
		}
		return nil
	}
}

// attributes say who asked for what, as which instance, with which LBCERT, and why it came out as it did. Nothing of
// it is a secret: a signature is told by its digest alone.
func (d *delivery) attributes() map[string]string {
	c := d.caller
	a := map[string]string{
		"requestId": c.RequestID, "caller": c.ARN, "accessKeyId": c.AccessKeyID, "role": c.RoleName,
		"instance": c.InstanceID, "sourceIp": c.SourceIP, "arn": clipped(d.arn),
	}
	if r := d.request; r != nil {
		digest := sha256.Sum256(r.Signature)
		a["profile"], a["nonce"], a["timestamp"] = strconv.Itoa(int(r.Profile)), clipped(r.Nonce), clipped(r.Timestamp)
		a["signatureSha256"] = hex.EncodeToString(digest[:])
		if cert := d.certificate(); cert != nil {
			a["lbcert"], a["lbcertSerial"] = clipped(cert.Subject.CommonName), cert.SerialNumber.Text(16)
		}
	}
	a["certificate"] = d.certificateID
	if d.denial != nil {
		a["reason"], a["detail"], a["wanted"] = string(d.denial.Reason), d.denial.Detail, d.denial.Wanted
		if n := d.denial.Reason.Check(); n != 0 {
			a["check"] = strconv.Itoa(n)
		}
	}
	if d.explanation != nil {
		if text, err := json.Marshal(d.explanation); err == nil {
			a["explanation"] = string(text)
		}
	}
	for name, value := range a {
		if value == "" {
			delete(a, name)
		}
	}
	return a
}

// certificate is the LBCERT of the request, nil when what was sent is none.
func (d *delivery) certificate() *x509.Certificate {
	if d.verified != nil {
		return d.verified.Certificate()
	}
	cert, err := (keydelivery.Identity{CertPEM: d.request.CertPEM}).Certificate()
	if err != nil {
		return nil
	}
	return cert
}

// clipped bounds a text that the caller chose.
func clipped(text string) string {
	const most = 2048
	if len(text) > most {
		text = text[:most]
	}
	return text
}
