package agent_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guest is an LBVM under test with its world.
type guest struct {
	t       *testing.T
	cloud   *fakeCloud
	console *console
	media   *media
	offset  time.Duration // of the guest's clock
	mu      sync.Mutex
	seeds   [][]byte
	off     chan struct{} // closed by PowerOff
	done    chan error
	stop    context.CancelFunc
}

// boot starts an LBVM; it ends with the test.
func boot(t *testing.T, cloud *fakeCloud, edit ...func(*guest, *agent.World)) *guest {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	g := &guest{
		t: t, cloud: cloud, console: newConsole(), stop: stop,
		media: &media{queue: make(chan fs.FS, 4), changed: make(chan struct{}, 4)},
		off:   make(chan struct{}), done: make(chan error, 1),
	}
	host := cloud.net.Host(guestIP)
	world := agent.World{
		Medium: g.media, Dial: host.Dial, Listen: host.Listen,
		Now:      func() time.Time { g.mu.Lock(); defer g.mu.Unlock(); return time.Now().Add(g.offset) },
		SetClock: g.setClock,
		Entropy: func(seed []byte) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.seeds = append(g.seeds, bytes.Clone(seed))
			return nil
		},
		Console:  agent.NewConsole(g.console, func() time.Duration { return time.Second }),
		Logger:   slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		PowerOff: func() { close(g.off) },
	}
	for _, e := range edit {
		e(g, &world)
	}
	go func() { g.done <- agent.RunLBVM(ctx, world) }()
	t.Cleanup(func() {
		stop()
		<-g.off
	})
	return g
}

// bootWithMedium starts an LBVM whose good medium is in from the start.
func bootWithMedium(t *testing.T, cloud *fakeCloud, edit ...func(*guest, *agent.World)) *guest {
	t.Helper()
	g := boot(t, cloud, edit...)
	g.insert(cloud.medium(guestID, time.Now().Add(365*24*time.Hour)))
	return g
}

func (g *guest) setClock(to time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offset = time.Until(to)
	return nil
}

func (g *guest) insert(m *keydelivery.Medium) {
	g.t.Helper()
	g.insertFiles(filesOf(g.t, m))
}

func (g *guest) insertFiles(files fs.FS) { g.media.queue <- files }

func filesOf(t *testing.T, m *keydelivery.Medium) fstest.MapFS {
	t.Helper()
	files, err := m.Files()
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	for name, data := range files {
		out[name] = &fstest.MapFile{Data: data}
	}
	return out
}

type media struct {
	queue   chan fs.FS
	changed chan struct{}
}

func (m *media) Open(ctx context.Context) (fs.FS, error) {
	select {
	case files := <-m.queue:
		return files, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (m *media) Changed() <-chan struct{} { return m.changed }

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// console keeps the milestones and lets a test wait for one.
type console struct {
	mu      sync.Mutex
	lines   []map[string]any
	raw     bytes.Buffer
	changed chan struct{}
}

func newConsole() *console { return &console{changed: make(chan struct{})} }

func (c *console) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(line)
	text, ok := bytes.CutPrefix(line, []byte(agent.MilestonePrefix))
	var m map[string]any
	if !ok || json.Unmarshal(text, &m) != nil {
		m = map[string]any{"stage": "unparseable", "line": string(line)}
	}
	c.lines = append(c.lines, m)
	close(c.changed)
	c.changed = make(chan struct{})
	return len(line), nil
}

// find returns how many milestones match stage and the attributes, given as "name=value".
func (c *console) find(stage string, attrs ...string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, m := range c.lines {
		if matches(m, stage, attrs) {
			n++
		}
	}
	return n
}

func matches(m map[string]any, stage string, attrs []string) bool {
	if m["stage"] != stage {
		return false
	}
	for _, a := range attrs {
		name, value, _ := strings.Cut(a, "=")
		if m[name] != value {
			return false
		}
	}
	return true
}

func (c *console) stages() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]string, 0, len(c.lines))
	for _, m := range c.lines {
		out = append(out, m["stage"].(string))
	}
	return out
}

// expect waits until a milestone has come so many times; the bubble's time runs meanwhile.
func (g *guest) expect(within time.Duration, times int, stage string, attrs ...string) {
	g.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		g.console.mu.Lock()
		changed := g.console.changed
		g.console.mu.Unlock()
		if g.console.find(stage, attrs...) >= times {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			g.console.mu.Lock()
			defer g.console.mu.Unlock()
			g.t.Fatalf("no %d milestones %s %v within %s; the console has\n%s",
				times, stage, attrs, within, g.console.raw.String())
		}
	}
}

// backend is a web server behind the load balancer.
type backend struct {
	id, ip  string
	mu      sync.Mutex
	failing bool
	last    *http.Request
	handler http.HandlerFunc
}

func startBackend(cloud *fakeCloud, id, ip string) *backend {
	b := &backend{id: id, ip: ip}
	cloud.serve(ip, ":80", b, nil)
	return b
}

func (b *backend) servo() servo.Backend {
	return servo.Backend{InstanceID: b.id, IPAddress: b.ip, ReportHealthCheck: true}
}

func (b *backend) fail(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing = on
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	failing, handler := b.failing, b.handler
	if r.URL.Path != "/health" {
		b.last = r
	}
	b.mu.Unlock()
	switch {
	case failing:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/health":
	case handler != nil:
		handler(w, r)
	default:
		_, _ = io.WriteString(w, b.id)
	}
}

// client is somebody outside who trusts the users' CA.
type client struct {
	*http.Client
	transport *http.Transport
}

func newClient(t *testing.T, cloud *fakeCloud, ca *pair, port int) *client {
	t.Helper()
	roots := x509.NewCertPool()
	if ca != nil {
		roots.AddCert(ca.cert)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return cloud.net.Host(gatewayIP).Dial(ctx, network, net.JoinHostPort(guestIP, strconv.Itoa(port)))
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{Client: &http.Client{Transport: transport, Timeout: 3 * time.Minute}, transport: transport}
}

// get returns status and body; a failed request is status 0 with the error's text.
func (c *client) get(target string) (int, string) {
	answer, err := c.Get(target)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(body)
}

// presented returns the fingerprint that a fresh handshake is shown, or "" when there is none.
func presented(cloud *fakeCloud, port int) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := cloud.net.Host(gatewayIP).Dial(ctx, "tcp", net.JoinHostPort(guestIP, strconv.Itoa(port)))
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		return ""
	}
	return (&pair{cert: secure.ConnectionState().PeerCertificates[0]}).fingerprint()
}

func httpsListener(port int, arn, revision string) servo.Listener {
	return servo.Listener{
		Protocol: "HTTPS", LoadBalancerPort: port, InstanceProtocol: "HTTP", InstancePort: 80,
		SSLCertificateID: arn, CertificateRevision: revision,
	}
}

func httpListener(port int) servo.Listener {
	return servo.Listener{Protocol: "HTTP", LoadBalancerPort: port, InstanceProtocol: "HTTP", InstancePort: 80}
}

// bubble runs a test in fake time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func newSessions() tls.ClientSessionCache { return tls.NewLRUClientSessionCache(4) }

// resume makes one request over a fresh connection and tells whether its session was resumed.
func (l *lab) resume(t *testing.T, cache tls.ClientSessionCache) bool {
	t.Helper()
	c := newClient(t, l.cloud, l.ca, 443)
	c.transport.TLSClientConfig.ClientSessionCache = cache
	c.transport.DisableKeepAlives = true
	answer, err := c.Get("https://www.example.test/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Error(err)
	}
	_ = answer.Body.Close()
	return answer.TLS.DidResume
}
