package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

// ErrIdentity means that the node's folder holds no usable NODEPK and NODECERT, and no token came to make them.
var ErrIdentity = errors.New("node has no identity")

// The files of a node's identity in its folder.
const (
	keyFile  = "node.key"     // NODEPK, PKCS#8 PEM, mode 0600
	certFile = "node.crt"     // NODECERT
	caFile   = "cloud-ca.crt" // what signed it and the cloud's own certificates
)

const (
	enrolTimeout = 10 * time.Second
	enrolPause   = 500 * time.Millisecond
)

// anew is how a node whose identity is lost gets into the cloud again: its old name stays taken, so that nobody with a
// token takes its place.
const anew = "enrol under another name with a new token"

// identity is who the node is.
type identity struct {
	id   string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	ca   *x509.Certificate
}

func (i *identity) tls() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(i.ca)
	return nodelink.NodeTLS(tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key, Leaf: i.cert}, pool)
}

// loadOrEnrol returns the identity in the node's folder, or enrols with the token and keeps what it gets.
func loadOrEnrol(ctx context.Context, cfg Config) (*identity, error) {
	i, err := loadIdentity(cfg.Dir)
	if err == nil {
		return i, i.check(cfg.ID, time.Now())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w; bring %s back from a copy, or move it away and %s", ErrIdentity, err, cfg.Dir, anew)
	}
	if cfg.Token == "" {
		return nil, fmt.Errorf("%w: %s holds none; start it with an enrolment token", ErrIdentity, cfg.Dir)
	}
	if cfg.ID == "" {
		if cfg.ID, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("name the node: %w", err)
		}
	}
	return enrol(ctx, cfg)
}

func (i *identity) check(wantID string, now time.Time) error {
	if wantID != "" && wantID != i.id {
		return fmt.Errorf("%w: the folder belongs to node %s, not %s", ErrIdentity, i.id, wantID)
	}
	if now.After(i.cert.NotAfter) {
		return fmt.Errorf("%w: its certificate ended on %s; enrol anew", ErrIdentity, i.cert.NotAfter.Format(time.DateOnly))
	}
	return nil
}

func loadIdentity(dir string) (*identity, error) {
	// The certificate is written last, so it decides whether the node is enrolled.
	cert, err := readCertificate(filepath.Join(dir, certFile))
	if err != nil {
		return nil, err
	}
	ca, err := readCertificate(filepath.Join(dir, caFile))
	if err != nil {
		return nil, damaged(err)
	}
	der, err := readPEM(filepath.Join(dir, keyFile), "PRIVATE KEY")
	if err != nil {
		return nil, damaged(err)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: not a PKCS#8 key", keyFile)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("read %s: the key is not that of %s", keyFile, certFile)
	}
	return &identity{id: cert.Subject.CommonName, key: key, cert: cert, ca: ca}, nil
}

// damaged keeps a missing second file from looking like a node that never enrolled.
func damaged(err error) error { return fmt.Errorf("the folder is damaged: %v", err) } //nolint:errorlint // on purpose

func readCertificate(path string) (*x509.Certificate, error) {
	der, err := readPEM(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return cert, nil
}

func readPEM(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("read %s: no PEM block %s", path, kind)
	}
	return block.Bytes, nil
}

// enrol makes NODEPK, asks for NODECERT and keeps both. NODEPK never leaves the node.
func enrol(ctx context.Context, cfg Config) (*identity, error) {
	token, err := nodelink.ParseToken(cfg.Token)
	if err != nil {
		return nil, fmt.Errorf("enrol node: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("enrol node: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: cfg.ID},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("enrol node: %w", err)
	}
	conn, err := nodelink.Dial(cfg.CloudAddress, nodelink.EnrolTLS(token))
	if err != nil {
		return nil, fmt.Errorf("enrol node: %w", err)
	}
	defer func() { _ = conn.Close() }()
	answer, err := askEnrolment(ctx, nodelink.NewEnrolmentClient(conn), &nodelink.EnrolRequest{
		Token: cfg.Token, NodeId: cfg.ID, CsrDer: csr,
	})
	if err != nil {
		return nil, enrolError(cfg, err)
	}
	i, err := checkAnswer(answer, token, key, cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("enrol node %s: %w", cfg.ID, err)
	}
	return i, i.save(cfg.Dir)
}

// askEnrolment repeats the call while the cloud cannot be reached, until ctx ends.
func askEnrolment(ctx context.Context, client nodelink.EnrolmentClient,
	in *nodelink.EnrolRequest) (*nodelink.EnrolResponse, error) {
	for {
		one, cancel := context.WithTimeout(ctx, enrolTimeout)
		answer, err := client.Enrol(one, in)
		cancel()
		code := status.Code(err)
		if err == nil || code != codes.Unavailable && code != codes.DeadlineExceeded {
			return answer, err
		}
		timer := time.NewTimer(enrolPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// enrolError says what to do about the cloud's refusal.
func enrolError(cfg Config, err error) error {
	switch status.Code(err) { //nolint:exhaustive // the others need no advice
	case codes.AlreadyExists:
		return fmt.Errorf("%w: the cloud at %s knows a node %s, and %s does not hold that node's identity; bring the "+
			"folder back from a copy, or %s", ErrIdentity, cfg.CloudAddress, cfg.ID, cfg.Dir, anew)
	case codes.PermissionDenied:
		return fmt.Errorf("%w: the cloud at %s refused the enrolment token, which is used, expired or another cloud's; "+
			"take a new one", ErrIdentity, cfg.CloudAddress)
	}
	return fmt.Errorf("enrol node %s at %s: %w", cfg.ID, cfg.CloudAddress, err)
}

func checkAnswer(answer *nodelink.EnrolResponse, token nodelink.Token, key *ecdsa.PrivateKey,
	id string) (*identity, error) {
	parse := func(text []byte, what string) (*x509.Certificate, error) {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("the cloud's %s is no PEM", what)
		}
		return x509.ParseCertificate(block.Bytes)
	}
	ca, err := parse(answer.GetCloudCaPem(), "CA certificate")
	if err != nil {
		return nil, err
	}
	cert, err := parse(answer.GetNodeCertPem(), "node certificate")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(ca.Raw)
	if subtle.ConstantTimeCompare(sum[:], token.CAHash[:]) != 1 {
		return nil, errors.New("the cloud's CA is not the one that the token names")
	}
	if !key.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != id || cert.CheckSignatureFrom(ca) != nil {
		return nil, errors.New("the cloud's node certificate is not for this node")
	}
	return &identity{id: id, key: key, cert: cert, ca: ca}, nil
}

func (i *identity) save(dir string) error {
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return fmt.Errorf("encode NODEPK: %w", err)
	}
	defer clear(der)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(key)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{keyFile, key},
		{caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.ca.Raw})},
		{certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", f.data, 0o600); err != nil {
			return fmt.Errorf("keep the node's identity: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("keep the node's identity: %w", err)
		}
	}
	return nil
}
