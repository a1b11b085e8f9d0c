package ec2

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// identityDocument is the instance identity document, of which package imds on the node makes the same; what an
// instance here never has is null, as for EC2's own.
type identityDocument struct {
	AccountID        string  `json:"accountId"`
	Architecture     string  `json:"architecture"`
	AvailabilityZone string  `json:"availabilityZone"`
	BillingProducts  *string `json:"billingProducts"`
	DevpayCodes      *string `json:"devpayProductCodes"`
	MarketplaceCodes *string `json:"marketplaceProductCodes"`
	ImageID          string  `json:"imageId"`
	InstanceID       string  `json:"instanceId"`
	InstanceType     string  `json:"instanceType"`
	KernelID         *string `json:"kernelId"`
	PendingTime      string  `json:"pendingTime"`
	PrivateIP        string  `json:"privateIp"`
	RamdiskID        *string `json:"ramdiskId"`
	Region           string  `json:"region"`
	Version          string  `json:"version"`
}

func (i *Instance) identityDocument(region string) ([]byte, error) {
	text, err := json.MarshalIndent(identityDocument{
		AccountID: i.AccountID, Architecture: "x86_64", AvailabilityZone: zoneOf(region), ImageID: i.ImageID,
		InstanceID: i.ID, InstanceType: i.InstanceType, PrivateIP: i.PrivateIP,
		PendingTime: i.LaunchTime.UTC().Format("2006-01-02T15:04:05Z"), Region: region, Version: "2017-09-30",
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode identity document of %s: %w", i.ID, err)
	}
	lines := bytes.Split(text, []byte("\n"))
	for n, line := range lines { // as EC2 prints it, with a space on either side of the colons
		lines[n] = bytes.Replace(line, []byte(`": `), []byte(`" : `), 1)
	}
	return bytes.Join(lines, []byte("\n")), nil
}

const (
	documentKeyBits = 2048
	documentKeyLife = 30 * 365 * 24 * time.Hour // about what EC2's own are good for
	// documentKeyPurpose is bound to the sealed key.
	documentKeyPurpose = "instance-identity"
)

// documentKeyRecord is the key by which a region's identity documents are signed. A record without a key, from a bundle
// of evidence, is made anew.
type documentKeyRecord struct {
	CertificateDER []byte
	SealedKey      string
}

// documentSigner signs identity documents with the region's key, which is made when it is first needed: an RSA key
// takes longer than the rest of a cloud's start.
type documentSigner struct {
	table  *store.Table[documentKeyRecord]
	region string
	clock  func() time.Time
	seal   func(purpose string, plaintext keydelivery.Secret) (string, error)
	open   func(purpose, sealed string) (keydelivery.Secret, error)

	mu   sync.Mutex // held while the key is made or read
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

// errUnsigned means that the cloud was put together without a place for the key.
var errUnsigned = errors.New("this cloud does not sign identity documents")

// load returns the region's key and its certificate, which signs itself. Two processes that make one at the same time
// end up with the same.
func (d *documentSigner) load(ctx context.Context) (*rsa.PrivateKey, *x509.Certificate, error) {
	if d.seal == nil || d.open == nil {
		return nil, nil, errUnsigned
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.key != nil {
		return d.key, d.cert, nil
	}
	record, err := d.table.Get(ctx, d.region)
	if errors.Is(err, store.ErrNotFound) {
		if record, err = d.make(); err != nil {
			return nil, nil, err
		}
		if err = d.table.Create(ctx, d.region, record); errors.Is(err, store.ErrExists) {
			record, err = d.table.Get(ctx, d.region)
		}
	} else if err == nil && record.SealedKey == "" {
		if record, err = d.make(); err == nil {
			err = d.table.Put(ctx, d.region, record)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("load the key that signs identity documents: %w", err)
	}
	return d.unseal(record)
}

// unseal takes a record into use. The caller holds mu.
func (d *documentSigner) unseal(record documentKeyRecord) (*rsa.PrivateKey, *x509.Certificate, error) {
	const op = "open the key that signs identity documents"
	cert, err := x509.ParseCertificate(record.CertificateDER)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", op, err)
	}
	secret, err := d.open(documentKeyPurpose, record.SealedKey)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", op, err)
	}
	defer secret.Wipe()
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, nil, errors.New(op + ": it is damaged") // the parser's words may hold parts of it
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, errors.New(op + ": it is not its certificate's")
	}
	d.key, d.cert = key, cert
	return key, cert, nil
}

func (d *documentSigner) make() (documentKeyRecord, error) {
	const op = "make the key that signs identity documents"
	key, err := rsa.GenerateKey(rand.Reader, documentKeyBits)
	if err != nil {
		return documentKeyRecord{}, fmt.Errorf("%s: %w", op, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return documentKeyRecord{}, fmt.Errorf("%s: %w", op, err)
	}
	now := d.clock()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"cloudtwin"}, CommonName: "instance identity " + d.region},
		NotBefore:    now.Add(-5 * time.Minute), NotAfter: now.Add(documentKeyLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return documentKeyRecord{}, fmt.Errorf("%s: %w", op, err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return documentKeyRecord{}, fmt.Errorf("%s: %w", op, err)
	}
	secret := keydelivery.Secret(pkcs8)
	defer secret.Wipe()
	sealed, err := d.seal(documentKeyPurpose, secret)
	if err != nil {
		return documentKeyRecord{}, fmt.Errorf("%s: %w", op, err)
	}
	return documentKeyRecord{CertificateDER: der, SealedKey: sealed}, nil
}

// sign makes the signatures that the metadata service hands out. Where EC2's pkcs7 is DSA with SHA-1, this one is like
// rsa2048.
func (d *documentSigner) sign(ctx context.Context, document []byte) (*nodelink.InstanceIdentityResponse, error) {
	key, cert, err := d.load(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(document)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, fmt.Errorf("sign identity document: %w", err)
	}
	signed, err := pkcs7.NewSignedData(document)
	if err != nil {
		return nil, fmt.Errorf("sign identity document: %w", err)
	}
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := signed.AddSigner(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("sign identity document: %w", err)
	}
	der, err := signed.Finish()
	if err != nil {
		return nil, fmt.Errorf("sign identity document: %w", err)
	}
	text := base64Lines(der)
	return &nodelink.InstanceIdentityResponse{
		Document: document, Signature: base64Lines(signature), Pkcs7: text, Rsa2048: text,
	}, nil
}

// base64Lines breaks base64 as EC2 does and as PEM wants it: users put BEGIN and END lines around it.
func base64Lines(data []byte) string {
	const width = 64
	text := []byte(base64.StdEncoding.EncodeToString(data))
	var out bytes.Buffer
	for len(text) > width {
		out.Write(text[:width])
		out.WriteByte('\n')
		text = text[width:]
	}
	out.Write(text)
	return out.String()
}

// IdentityCertificate returns the certificate, in PEM, by which the signatures of instances' identity documents are
// verified.
func (s *Service) IdentityCertificate(ctx context.Context) (string, error) {
	_, cert, err := s.documents.load(ctx)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})), nil
}
