package rehearsal

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// visit is a client of the load balancer: a verified handshake and, unless in brief, a request. Whether a backend is in
// service yet does not matter.
func (c *cloud) visit(ctx context.Context) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.user.certPEM) {
		return errors.New("certificate is none")
	}
	conn, err := c.stage.Network.Dial(ctx, clientIP, guestIP+":443")
	if err != nil {
		return err
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: hostname, MinVersion: tls.VersionTLS12})
	defer func() { _ = secure.Close() }()
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	if c.stage.Brief {
		return nil
	}
	return get(ctx, secure, "http://"+hostname+"/")
}

// visitWeb is a client of the web guest.
func (c *cloud) visitWeb(ctx context.Context) error {
	conn, err := c.stage.Network.Dial(ctx, clientIP, guestIP+":80")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return get(ctx, conn, "http://"+guestIP+"/health")
}

// get asks once and reads the answer's head.
func get(ctx context.Context, conn net.Conn, url string) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if err := request.Write(conn); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return answer.Body.Close()
}
