package nodelink

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ServerName is the DNS name that every nodelink server certificate carries and that every node expects, so that
// a cloud may be reached under any address.
const ServerName = "nodelink.cloudtwin.internal"

// ServerTLS is the TLS configuration of the cloud's side. A client certificate is verified against cloudCA when
// one is given; Enrolment is the only service that may be called without one (NodeFrom refuses the others).
func ServerTLS(cert tls.Certificate, cloudCA *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    cloudCA,
		// A ticket would let a session outlive the certificate that opened it.
		SessionTicketsDisabled: true,
	}
}

// NodeTLS is the TLS configuration of an enrolled node: nodeCert is its NODECERT with NODEPK.
func NodeTLS(nodeCert tls.Certificate, cloudCA *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{nodeCert},
		RootCAs:      cloudCA,
		ServerName:   ServerName,
	}
}

// EnrolTLS is the TLS configuration of a node that has nothing but its token. The server must show a chain that
// ends in the CA certificate whose SHA-256 the token names, so a token is never told to a stranger.
func EnrolTLS(token Token) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: ServerName,
		// The usual verification needs roots that this node does not have yet; VerifyConnection takes its place.
		InsecureSkipVerify: true, //nolint:gosec // replaced by VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verifyPinned(cs.PeerCertificates, token.CAHash, time.Now())
		},
	}
}

// verifyPinned verifies chain[0] for ServerName against the one certificate of chain that has the wanted hash.
func verifyPinned(chain []*x509.Certificate, caHash [sha256.Size]byte, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("verify the cloud: it showed no certificate")
	}
	for _, ca := range chain[1:] {
		sum := sha256.Sum256(ca.Raw)
		if subtle.ConstantTimeCompare(sum[:], caHash[:]) != 1 {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := chain[0].Verify(x509.VerifyOptions{
			Roots: roots, DNSName: ServerName, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}); err != nil {
			return fmt.Errorf("verify the cloud's certificate: %w", err)
		}
		return nil
	}
	return errors.New("verify the cloud: its CA is not the one that the enrolment token names")
}

// Peer is who is at the other end of a call.
type Peer struct {
	NodeID      string
	Certificate *x509.Certificate
}

// NodeFrom returns the node that made the call in ctx: the common name of its verified NODECERT. A call without
// one gets codes.Unauthenticated.
func NodeFrom(ctx context.Context) (Peer, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return Peer{}, status.Error(codes.Unauthenticated, "a node certificate is required")
	}
	cert := info.State.VerifiedChains[0][0]
	if err := CheckNodeID(cert.Subject.CommonName); err != nil {
		return Peer{}, status.Error(codes.Unauthenticated, "the certificate's common name is no node id")
	}
	return Peer{NodeID: cert.Subject.CommonName, Certificate: cert}, nil
}
