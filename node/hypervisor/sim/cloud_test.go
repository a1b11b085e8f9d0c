package sim

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
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/node/floppy"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

const (
	apiIP    = "169.254.169.253"
	imdsIP   = "169.254.169.254"
	hostName = "www.example.test"
	userARN  = "arn:aws:iam::123456789012:server-certificate/" + hostName
	apiName  = "api.test:443" // what the network hands over to the fake cloud
	lbPort   = 443
)

// fakeCloud is what an LBVM talks to, as small as can be: one load balancer for all, with one HTTPS listener. What the
// real one does is in package cloud; here only guests and wires are looked at.
type fakeCloud struct {
	t         testing.TB
	authority *keydelivery.Authority
	checker   *keydelivery.Checker
	ca, user  tls.Certificate
	api       *http.Server
	guests    *handedOver
	serving   sync.WaitGroup
	served    chan string // instances that asked for the user's key
}

func newFakeCloud(t testing.TB) *fakeCloud {
	t.Helper()
	authority, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &fakeCloud{
		t: t, authority: authority, guests: &handedOver{conns: make(chan net.Conn), done: make(chan struct{})},
		served:  make(chan string, 1<<16),
		checker: keydelivery.NewChecker(keydelivery.CheckerConfig{IAMCert: authority.Certificate()}),
	}
	c.ca = makeCert(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true})
	c.user = makeCert(t, &c.ca, &x509.Certificate{DNSNames: []string{hostName}})
	api := makeCert(t, &c.ca, &x509.Certificate{IPAddresses: []net.IP{net.ParseIP(apiIP)}})
	c.api = &http.Server{
		Handler: http.HandlerFunc(c.serveAPI), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{api}, MinVersion: tls.VersionTLS12},
	}
	c.serving.Go(func() { _ = c.api.ServeTLS(c.guests, "", "") })
	t.Cleanup(func() {
		_ = c.api.Close()
		c.serving.Wait()
	})
	return c
}

// handedOver is a listener of connections that the network hands over.
type handedOver struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *handedOver) take(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handedOver) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (*handedOver) Addr() net.Addr { return wireAddr{} }

// network makes the guests' network with the cloud at the end of it.
func (c *fakeCloud) network() *vnet.Network {
	c.t.Helper()
	n, err := vnet.New(vnet.Config{HandOver: func(string) func(net.Conn) { return c.guests.take }})
	if err != nil {
		c.t.Fatal(err)
	}
	n.HandleHTTP(netip.MustParseAddrPort(imdsIP+":80"), http.HandlerFunc(c.serveMetadata))
	n.Forward(netip.MustParseAddrPort(apiIP+":443"), apiName)
	c.t.Cleanup(func() { _ = n.Close() })
	return n
}

func makeCert(t testing.TB, issuer *tls.Certificate, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.BasicConstraintsValid = true
	parent, signer := template, any(key)
	if issuer != nil {
		parent, signer = issuer.Leaf, issuer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func certPEM(c tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

func (c *fakeCloud) serveMetadata(w http.ResponseWriter, r *http.Request) {
	id, _ := vnet.InstanceFrom(r.Context())
	const role, credentials = "role-of-", "/latest/meta-data/iam/security-credentials/"
	switch r.URL.Path {
	case "/latest/api/token":
		_, _ = io.WriteString(w, "token")
	case "/latest/user-data":
		w.WriteHeader(http.StatusNotFound)
	case "/latest/meta-data/instance-id":
		_, _ = io.WriteString(w, id)
	case credentials:
		_, _ = io.WriteString(w, role+id)
	case credentials + role + id:
		_, _ = fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"ASIATEST","SecretAccessKey":"secret","Token":%q,
			"Expiration":%q}`, id, time.Now().Add(6*time.Hour).UTC().Format(time.RFC3339))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (c *fakeCloud) serveAPI(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return
	}
	switch form.Get("Action") {
	case servo.DescribeAction:
		c.describe(w, r, form)
	case keydelivery.Action:
		c.download(w, r, form)
	default:
		_, _ = io.WriteString(w, "<PutServoStatesResponse/>")
	}
}

func (c *fakeCloud) describe(w http.ResponseWriter, r *http.Request, form url.Values) {
	const revision = "1"
	if _, asked, wait, err := servo.ParseDescribe(form); err == nil && asked == revision {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	d := servo.Description{
		Revision: revision,
		LoadBalancers: []servo.LoadBalancer{{Name: "lb", Listeners: servo.List[servo.Listener]{{
			Protocol: "HTTPS", LoadBalancerPort: lbPort, InstanceProtocol: "HTTP", InstancePort: 80,
			SSLCertificateID: userARN, CertificateRevision: "1",
		}}}},
	}
	answer, err := d.MarshalXMLBody("request")
	if err != nil {
		c.t.Error(err)
	}
	_, _ = w.Write(answer)
}

func (c *fakeCloud) download(w http.ResponseWriter, r *http.Request, form url.Values) {
	id := r.Header.Get("X-Amz-Security-Token")
	request, err := keydelivery.ParseRequest(form)
	if err != nil {
		c.t.Error(err)
		return
	}
	verified, err := c.checker.Verify(r.Context(), request, keydelivery.Session{ID: id, InstanceID: id})
	if err != nil {
		c.t.Errorf("delivery to %s: %v", id, err)
		return
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.user.PrivateKey)
	if err != nil {
		c.t.Error(err)
		return
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	answer, err := c.authority.Answer(verified, certPEM(c.user), key)
	if err != nil {
		c.t.Error(err)
		return
	}
	text, err := answer.MarshalXMLBody("request")
	if err != nil {
		c.t.Error(err)
	}
	_, _ = w.Write(text)
	c.served <- id
}

// medium writes the floppy of an LBVM and returns its path.
func (c *fakeCloud) medium(dir, id string) string {
	c.t.Helper()
	return c.mediumOf(dir, id, time.Now())
}

// mediumOf is a medium that says that it was made then.
func (c *fakeCloud) mediumOf(dir, id string, made time.Time) string {
	c.t.Helper()
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := c.authority.SignLBCert(id, key.Public(), time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		c.t.Fatal(err)
	}
	m := keydelivery.Medium{
		LBCertPEM: cert, IAMCertPEM: c.authority.CertificatePEM(), CloudCertPEM: certPEM(c.ca), LBKey: text,
		Boot: keydelivery.Boot{
			FormatVersion: keydelivery.BootFormat, InstanceID: id, CAPEM: string(certPEM(c.ca)),
			Endpoints: map[string]string{"iam": "https://" + apiIP, "elb": "https://" + apiIP},
			Entropy:   make([]byte, keydelivery.EntropySize), Region: "us-east-1", Time: made,
		},
	}
	files, err := m.Files()
	if err != nil {
		c.t.Fatal(err)
	}
	path := filepath.Join(dir, id+".img")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if err := floppy.Write(f, files); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// site is a node in small: a driver, a network, and the images.
type site struct {
	*Driver
	t       testing.TB
	cloud   *fakeCloud
	network *vnet.Network
	dir     string
	started int
}

func newSite(t testing.TB, c *fakeCloud, cfg Config) *site {
	t.Helper()
	s := &site{t: t, cloud: c, dir: t.TempDir()}
	if err := WriteImages(s.dir); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = filepath.Join(s.dir, "machines")
	var err error
	if s.Driver, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.network = c.network()
	return s
}

// spec describes the next machine of a flavour.
func (s *site) spec(flavour string) (spec hypervisor.Spec, ip netip.Addr) {
	s.started++
	n := s.started
	ip = netip.AddrFrom4([4]byte{10, 64, byte(1 + n/250), byte(1 + n%250)})
	mac := fmt.Sprintf("02:00:0a:40:%02x:%02x", 1+n/250, 1+n%250)
	id := fmt.Sprintf("i-%08d", n)
	return hypervisor.Spec{
		ID: id, Kernel: filepath.Join(s.dir, flavour, kernelFile), Initrd: filepath.Join(s.dir, flavour, initrdFile),
		MemoryMB: 96, ConsoleLog: filepath.Join(s.dir, id+".console"),
		NIC: hypervisor.NIC{MAC: mac, Socket: filepath.Join(s.dir, id+".sock")},
	}, ip
}

// start starts a machine and plugs it in.
func (s *site) start(spec hypervisor.Spec, ip netip.Addr) hypervisor.Machine {
	s.t.Helper()
	ctx := context.Background()
	m, err := s.Start(ctx, spec)
	if err != nil {
		s.t.Fatal(err)
	}
	err = s.network.Attach(ctx, vnet.PortConfig{
		InstanceID: spec.ID, MAC: spec.NIC.MAC, IP: ip, Hostname: "host",
		Dial: func(ctx context.Context) (net.Conn, error) { return s.DialNIC(ctx, spec.ID) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}
