package rehearsal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
)

// Who is who in the made-up cloud.
const (
	instanceID = "i-00000000000000000"
	guestIP    = "10.64.0.2"
	backendIP  = "10.64.0.3"
	clientIP   = "10.64.0.1"
	imdsIP     = "169.254.169.254"
	apiIP      = "169.254.169.253"
	role       = "rehearsal"
	arn        = "arn:aws:iam::000000000000:server-certificate/rehearsal"
	hostname   = "rehearsal.example"
	life       = time.Hour
	maxBody    = 64 << 10
)

// cloud is everything outside of the guest.
type cloud struct {
	stage     Stage
	logger    *slog.Logger
	authority *keydelivery.Authority
	checker   *keydelivery.Checker
	user      *pair
	api       *pair
	servers   []*http.Server
	running   sync.WaitGroup
}

func newCloud(stage Stage) (*cloud, error) {
	authority, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		return nil, err
	}
	c := &cloud{
		stage: stage, logger: slog.New(slog.DiscardHandler), authority: authority,
		checker: keydelivery.NewChecker(keydelivery.CheckerConfig{IAMCert: authority.Certificate()}),
	}
	if c.user, err = newPair(&x509.Certificate{DNSNames: []string{hostname}}); err != nil {
		return nil, err
	}
	if c.api, err = newPair(&x509.Certificate{IPAddresses: []net.IP{net.ParseIP(apiIP)}}); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		ip, address string
		handler     http.HandlerFunc
		secure      *pair
	}{
		{imdsIP, ":80", c.serveMetadata, nil},
		{apiIP, ":443", c.serveAPI, c.api},
		{backendIP, ":80", c.serveBackend, nil},
	} {
		if err := c.serve(s.ip, s.address, s.handler, s.secure); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *cloud) serve(ip, address string, handler http.Handler, secure *pair) error {
	listener, err := c.stage.Network.Listen(ip, address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: limit, ErrorLog: slog.NewLogLogger(c.logger.Handler(), slog.LevelDebug),
	}
	c.servers = append(c.servers, server)
	c.running.Go(func() {
		if secure == nil {
			_ = server.Serve(listener)
			return
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{secure.tls()}, MinVersion: tls.VersionTLS12}
		_ = server.ServeTLS(listener, "", "")
	})
	return nil
}

func (c *cloud) close() {
	for _, s := range c.servers {
		_ = s.Close()
	}
	c.running.Wait()
}

func (c *cloud) boot() keydelivery.Boot {
	endpoint := "https://" + apiIP + ":443"
	return keydelivery.Boot{
		FormatVersion: keydelivery.BootFormat, InstanceID: instanceID, Time: time.Now(),
		Endpoints: map[string]string{"iam": endpoint, "elb": endpoint}, CAPEM: string(c.api.certPEM),
		Entropy: make([]byte, keydelivery.EntropySize), Region: "us-east-1",
	}
}

// medium is what a node writes on a floppy.
func (c *cloud) medium() (map[string][]byte, error) {
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		return nil, err
	}
	certificate, err := c.authority.SignLBCert(instanceID, key.Public(), time.Now().Add(-time.Minute),
		time.Now().Add(life))
	if err != nil {
		return nil, err
	}
	medium := keydelivery.Medium{
		LBCertPEM: certificate, IAMCertPEM: c.authority.CertificatePEM(), CloudCertPEM: c.api.certPEM, LBKey: text,
		Boot: c.boot(),
	}
	return medium.Files()
}

func (c *cloud) serveMetadata(w http.ResponseWriter, r *http.Request) {
	const credentials = "/latest/meta-data/iam/security-credentials/" //nolint:gosec // G101: a path, no secret
	switch r.URL.Path {
	case "/latest/api/token":
		_, _ = io.WriteString(w, "token")
	case "/latest/meta-data/instance-id":
		_, _ = io.WriteString(w, instanceID)
	case credentials:
		_, _ = io.WriteString(w, role)
	case credentials + role:
		_, _ = fmt.Fprintf(w, `{"Code":"Success","LastUpdated":%q,"Type":"AWS-HMAC","AccessKeyId":"ASIAREHEARSAL",`+
			`"SecretAccessKey":"rehearsal","Token":"rehearsal","Expiration":%q}`,
			time.Now().UTC().Format(time.RFC3339), time.Now().Add(life).UTC().Format(time.RFC3339))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (c *cloud) serveAPI(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return
	}
	var answer []byte
	switch form.Get("Action") {
	case servo.DescribeAction:
		answer, err = c.describe(r.Context(), form)
	case keydelivery.Action:
		answer, err = c.deliver(r.Context(), form)
	default:
		return
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = w.Write(answer)
}

// describe answers the first question at once and holds the second until the end.
func (c *cloud) describe(ctx context.Context, form url.Values) ([]byte, error) {
	if form.Get("Revision") != "" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	description := servo.Description{
		Revision: "1", Metadata: servo.Intervals{PutInstanceHealthInterval: 10, PutMetricInterval: 60},
		LoadBalancers: []servo.LoadBalancer{{
			Name: "rehearsal", DNSName: hostname, Scheme: "internet-facing",
			AvailabilityZones: []string{"us-east-1a"},
			CreatedTime:       time.Now().UTC().Format(time.RFC3339),
			HealthCheck: servo.HealthCheck{
				Target: "HTTP:80/", Interval: 5, Timeout: 2, UnhealthyThreshold: 2, HealthyThreshold: 2,
			},
			Listeners: []servo.Listener{{
				Protocol: "HTTPS", LoadBalancerPort: 443, InstanceProtocol: "HTTP", InstancePort: 80,
				SSLCertificateID: arn, CertificateRevision: "1",
			}},
			Attributes: servo.LoadBalancerParams{IdleTimeout: 60},
		}},
	}
	if !c.stage.Brief {
		description.LoadBalancers[0].Backends = []servo.Backend{
			{InstanceID: "i-1", IPAddress: backendIP, ReportHealthCheck: true},
		}
	}
	return description.MarshalXMLBody("rehearsal")
}

func (c *cloud) deliver(ctx context.Context, form url.Values) ([]byte, error) {
	request, err := keydelivery.ParseRequest(form)
	if err != nil {
		return nil, err
	}
	verified, err := c.checker.Verify(ctx, request, keydelivery.Session{ID: "rehearsal", InstanceID: instanceID})
	if err != nil {
		return nil, err
	}
	answer, err := c.authority.Answer(verified, c.user.certPEM, c.user.keyPEM)
	if err != nil {
		return nil, err
	}
	return answer.MarshalXMLBody("rehearsal")
}

func (c *cloud) serveBackend(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "rehearsal")
}

// pair is a self-signed certificate with its key.
type pair struct {
	der, certPEM []byte
	key          *ecdsa.PrivateKey
	keyPEM       keydelivery.Secret
}

func newPair(template *x509.Certificate) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.Subject = big.NewInt(1), pkix.Name{CommonName: "rehearsal"}
	template.NotBefore, template.NotAfter = time.Now().Add(-life), time.Now().Add(life)
	template.BasicConstraintsValid, template.IsCA = true, true
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &pair{
		der: der, key: key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}),
	}, nil
}

func (p *pair) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.der}, PrivateKey: p.key}
}
