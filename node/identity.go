package node

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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

	removedFile = "removed" // why there is none any more
)

const (
	enrolTimeout = 10 * time.Second
	enrolPause   = 500 * time.Millisecond
)

// anew is how a node whose identity is lost gets into the cloud again: its old name stays taken until the operator
// frees it, so that nobody with a token takes its place.
func anew(id string) string {
	return fmt.Sprintf("free the name with 'cloudtwin node remove %s' on the cloud and enrol with a new token, or enrol "+
		"under another name", id)
}

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

// loadOrEnrol returns the identities in the node's folder, or enrols with the token and keeps what it gets.
func loadOrEnrol(ctx context.Context, cfg Config) (*keyring, error) {
	r, err := openKeyring(cfg.Dir, time.Now())
	switch {
	case err == nil:
		expired := r.present.check(cfg.ID, time.Now())
		if !errors.Is(expired, errExpired) || cfg.Token == "" {
			return r, expired
		}
		cfg.ID = r.present.id // with a token it may enrol again, if the operator has freed its name
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w; bring %s back from a copy, or move it away and %s", ErrIdentity, err, cfg.Dir,
			anew(cmp.Or(cfg.ID, "NODE-ID")))
	case cfg.Token == "":
		return nil, fmt.Errorf("%w: %s", ErrIdentity, noneIn(cfg.Dir))
	}
	if cfg.ID == "" {
		if cfg.ID, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("name the node: %w", err)
		}
	}
	i, err := enrol(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &keyring{dir: cfg.Dir, present: i}, nil
}

// noneIn says why a folder holds no identity.
func noneIn(dir string) string {
	why, err := os.ReadFile(filepath.Join(dir, removedFile))
	if err != nil {
		return dir + " holds none; start it with an enrolment token"
	}
	return strings.TrimSpace(string(why)) + "; to join again, start it with a new enrolment token"
}

// errExpired means that NODECERT's validity has ended.
var errExpired = errors.New("its certificate ended")

func (i *identity) check(wantID string, now time.Time) error {
	if wantID != "" && wantID != i.id {
		return fmt.Errorf("%w: the folder belongs to node %s, not %s", ErrIdentity, i.id, wantID)
	}
	if now.After(i.cert.NotAfter) {
		return fmt.Errorf("%w: %w on %s, before it was renewed; %s", ErrIdentity, errExpired,
			i.cert.NotAfter.UTC().Format(time.DateOnly), anew(i.id))
	}
	return nil
}

// belongs says whether key, certificate and CA belong together.
func (i *identity) belongs() error {
	if !i.key.PublicKey.Equal(i.cert.PublicKey) || i.cert.Subject.CommonName != i.id ||
		i.cert.CheckSignatureFrom(i.ca) != nil {
		return errors.New("the cloud's node certificate is not for this node")
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
	key, err := readKey(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, damaged(err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errMismatch
	}
	return &identity{id: cert.Subject.CommonName, key: key, cert: cert, ca: ca}, nil
}

// damaged keeps a missing second file from looking like a node that never enrolled.
func damaged(err error) error { return fmt.Errorf("the folder is damaged: %v", err) } //nolint:errorlint // on purpose

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
	csr, err := request(key, cfg.ID)
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
	}, cfg.OnLink)
	if err != nil {
		return nil, enrolError(cfg, err)
	}
	i, err := checkAnswer(answer, token, key, cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("enrol node %s: %w", cfg.ID, err)
	}
	return i, i.save(cfg.Dir)
}

// askEnrolment repeats the call while the cloud cannot be reached, until ctx ends. waiting is told once that it does.
func askEnrolment(ctx context.Context, client nodelink.EnrolmentClient, in *nodelink.EnrolRequest,
	waiting func(error)) (*nodelink.EnrolResponse, error) {
	for told := false; ; {
		one, cancel := context.WithTimeout(ctx, enrolTimeout)
		answer, err := client.Enrol(one, in)
		cancel()
		code := status.Code(err)
		if err == nil || code != codes.Unavailable && code != codes.DeadlineExceeded {
			return answer, err
		}
		if !told {
			told = true
			waiting(err)
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
			"folder back from a copy, or %s", ErrIdentity, cfg.CloudAddress, cfg.ID, cfg.Dir, anew(cfg.ID))
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
	i := &identity{id: id, key: key, cert: cert, ca: ca}
	return i, i.belongs()
}

// save keeps a new identity in place of whatever the folder holds.
func (i *identity) save(dir string) error {
	for _, name := range []string{certFile, removedFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the node's identity: %w", err)
		}
	}
	clearRenewals(dir)
	if err := writeKey(dir, keyFile, i.key); err != nil {
		return err
	}
	if err := writeCertificate(dir, caFile, i.ca); err != nil {
		return err
	}
	return writeCertificate(dir, certFile, i.cert)
}
