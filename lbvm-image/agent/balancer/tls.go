package balancer

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
)

// withCertificate makes the configuration of all handshakes that show this certificate. Ticket keys and their rotation
// are base's, random and of this process; each ticket is marked with the certificate it was given under, and is worth
// nothing under another.
func withCertificate(base *tls.Config, certificate *tls.Certificate) *tls.Config {
	cfg := base.Clone()
	cfg.GetConfigForClient = nil
	cfg.Certificates = []tls.Certificate{*certificate}
	mark := sha256.Sum256(certificate.Certificate[0])
	cfg.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, mark[:])
		return base.EncryptTicket(state, session)
	}
	cfg.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := base.DecryptTicket(ticket, state)
		if err != nil || session == nil {
			return nil, err
		}
		for _, extra := range session.Extra {
			if bytes.Equal(extra, mark[:]) {
				return session, nil
			}
		}
		return nil, nil
	}
	return cfg
}
