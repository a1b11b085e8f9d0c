package placement

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// ErrRequest means that a certificate request is not one that this CA signs.
var ErrRequest = errors.New("certificate request refused")

const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 365 * 24 * time.Hour
	nodeLife   = 2 * 365 * 24 * time.Hour
	// backdate lets a peer whose clock is a little behind accept a fresh certificate.
	backdate = 5 * time.Minute

	caKeyPurpose = "cloud-ca"
	caRecordKey  = "ca"
)

// CAConfig says where the cloud CA is kept and how its key is sealed there.
type CAConfig struct {
	Store *store.Store
	// Seal and Open keep the private key closed in the store; purpose is bound to the sealed text.
	Seal func(purpose string, plaintext keydelivery.Secret) (string, error)
	Open func(purpose, sealed string) (keydelivery.Secret, error)
	// Clock defaults to time.Now.
	Clock func() time.Time
	// NodeLife is how long a NODECERT is valid; default two years.
	NodeLife time.Duration
}

// Validate reports everything that is wrong with c at once.
func (c CAConfig) Validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("cloud CA: Store is required"))
	}
	if c.Seal == nil || c.Open == nil {
		errs = append(errs, errors.New("cloud CA: Seal and Open are required"))
	}
	if c.NodeLife < 0 {
		errs = append(errs, errors.New("cloud CA: NodeLife must not be negative"))
	}
	return errors.Join(errs...)
}

// CA is the cloud's certificate authority (P-256). It signs the certificates of the API, of nodelink's server
// and of the nodes. What it signs is told apart by the extended key usage: a NODECERT is never a server's.
type CA struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	clock func() time.Time

	nodeLife time.Duration
}

type caRecord struct {
	CertificateDER []byte
	SealedKey      string
}

// OpenCA returns the CA of this store and makes one if there is none. Two processes that start at once end up
// with the same CA.
func OpenCA(ctx context.Context, cfg CAConfig) (*CA, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	table := store.NewTable[caRecord](cfg.Store, "placement-ca")
	record, err := table.Get(ctx, caRecordKey)
	if errors.Is(err, store.ErrNotFound) {
		if record, err = newCARecord(cfg); err != nil {
			return nil, err
		}
		if err = table.Create(ctx, caRecordKey, record); errors.Is(err, store.ErrExists) {
			record, err = table.Get(ctx, caRecordKey)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open cloud CA: %w", err)
	}
	return openCARecord(cfg, record)
}

func newCARecord(cfg CAConfig) (caRecord, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return caRecord{}, fmt.Errorf("make cloud CA key: %w", err)
	}
	now := cfg.Clock()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "cloudtwin cloud CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return caRecord{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return caRecord{}, fmt.Errorf("sign cloud CA: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return caRecord{}, fmt.Errorf("encode cloud CA key: %w", err)
	}
	secret := keydelivery.Secret(pkcs8)
	defer secret.Wipe()
	sealed, err := cfg.Seal(caKeyPurpose, secret)
	if err != nil {
		return caRecord{}, fmt.Errorf("seal cloud CA key: %w", err)
	}
	return caRecord{CertificateDER: der, SealedKey: sealed}, nil
}

func openCARecord(cfg CAConfig, record caRecord) (*CA, error) {
	cert, err := x509.ParseCertificate(record.CertificateDER)
	if err != nil {
		return nil, fmt.Errorf("parse cloud CA: %w", err)
	}
	secret, err := cfg.Open(caKeyPurpose, record.SealedKey)
	if err != nil {
		return nil, fmt.Errorf("open cloud CA key: %w", err)
	}
	defer secret.Wipe()
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, errors.New("open cloud CA key: not a PKCS#8 key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("open cloud CA key: it does not belong to the certificate")
	}
	return &CA{cert: cert, key: key, clock: cfg.Clock, nodeLife: cmp.Or(cfg.NodeLife, nodeLife)}, nil
}

// CertPEM returns the CA's certificate.
func (ca *CA) CertPEM() []byte { return certPEM(ca.cert.Raw) }

// Certificate returns the CA's certificate; callers must not change it.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Pool returns a pool with the CA's certificate only.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// SignServer makes a key and a server certificate for hosts (DNS names and IP addresses, at least one), valid
// for a year. The chain holds the CA too, so that an enrolling node can find it there.
func (ca *CA) SignServer(hosts ...string) (tls.Certificate, error) {
	if len(hosts) == 0 {
		return tls.Certificate{}, errors.New("sign server certificate: no host")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server key: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0]},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := ca.sign(template, &key.PublicKey, serverLife)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign server certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key}, nil
}

// SignNode signs a NODECERT for nodeID, valid for CAConfig.NodeLife. csrDER must be a P-256 request with that common
// name and a valid signature, otherwise ErrRequest; nothing else is taken from it.
func (ca *CA) SignNode(csrDER []byte, nodeID string) (*x509.Certificate, error) {
	pub, err := checkNodeRequest(csrDER, nodeID)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: nodeID},
		// Credentials are sealed to this key, hence the usages beside digitalSignature.
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := ca.sign(template, pub, ca.nodeLife)
	if err != nil {
		return nil, fmt.Errorf("sign node certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// checkNodeRequest returns the key that a request is for.
func checkNodeRequest(csrDER []byte, nodeID string) (*ecdsa.PublicKey, error) {
	if err := nodelink.CheckNodeID(nodeID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("%w: it does not parse", ErrRequest)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: its signature is wrong", ErrRequest)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: its key is not P-256", ErrRequest)
	}
	if csr.Subject.CommonName != nodeID {
		return nil, fmt.Errorf("%w: its common name is %q, the node id is %q", ErrRequest, csr.Subject.CommonName, nodeID)
	}
	return pub, nil
}

func (ca *CA) sign(template *x509.Certificate, pub *ecdsa.PublicKey, life time.Duration) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := ca.clock()
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(life)
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, ca.cert, pub, ca.key)
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
