package agent_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/memnet"
)

const (
	guestID   = "i-0123456789abcdef0"
	guestIP   = "10.64.0.5"
	gatewayIP = "10.64.0.1"
	roleName  = "loadbalancer-vm-123456789012-demo"
	keyID     = "ASIATESTTESTTESTTEST"
	secretKey = "secret/of/the/role/session"
	token     = "session-token"
	imdsIP    = "169.254.169.254"
	apiIP     = "169.254.169.253"
)

// fakeCloud is the other end of every wire of an LBVM: metadata service, iam and elb, built on the server side of
// keydelivery. Its switches make it fail in the ways that clouds do.
type fakeCloud struct {
	publicKey string // that metadata tell
	t         *testing.T
	net       *memnet.Network
	authority *keydelivery.Authority
	checker   *keydelivery.Checker
	ca        *pair

	mu          sync.Mutex
	description servo.Description
	revision    int
	changed     chan struct{}
	users       map[string]*pair  // ARN to certificate and key
	withdrawn   map[string]string // ARN to error code
	states      map[string]string
	reports     int // of states
	metrics     []servo.Metric
	downloads   map[string]int
	broken      func(action string, w http.ResponseWriter, r *http.Request) bool // true: it has answered
	credentials time.Duration                                                    // life of the role's credentials
	issued      int
	accepted    map[string]bool // key ids
}

// newCloud starts the servers; they end with the test's bubble.
func newCloud(t *testing.T) *fakeCloud {
	t.Helper()
	authority, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &fakeCloud{
		t: t, net: &memnet.Network{}, authority: authority,
		checker: keydelivery.NewChecker(keydelivery.CheckerConfig{IAMCert: authority.Certificate()}),
		ca:      newPair(t, nil, "cloudtwin CA", ecdsaKey(t)),
		changed: make(chan struct{}), users: map[string]*pair{}, withdrawn: map[string]string{},
		states: map[string]string{}, downloads: map[string]int{}, credentials: 6 * time.Hour, accepted: map[string]bool{},
	}
	c.serve(imdsIP, ":80", http.HandlerFunc(c.serveMetadata), nil)
	api := newPair(t, c.ca, "", ecdsaKey(t), net.ParseIP(apiIP))
	c.serve(apiIP, ":443", http.HandlerFunc(c.serveAPI), api)
	return c
}

// serve runs a server on a host of the network until the test ends.
func (c *fakeCloud) serve(ip, address string, handler http.Handler, secure *pair) {
	c.t.Helper()
	listener, err := c.net.Host(ip).Listen("tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if secure == nil {
			_ = server.Serve(listener)
			return
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{secure.tls()}, MinVersion: tls.VersionTLS12}
		_ = server.ServeTLS(listener, "", "")
	}()
	c.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// change edits what elb describes and wakes the long polls.
func (c *fakeCloud) change(edit func(lb *servo.LoadBalancer)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.description.LoadBalancers) == 0 {
		c.description.LoadBalancers = []servo.LoadBalancer{{
			Name: "demo",
			HealthCheck: servo.HealthCheck{
				Target: "HTTP:80/health", Interval: 5, Timeout: 2, UnhealthyThreshold: 2, HealthyThreshold: 2,
			},
		}}
		c.description.Metadata = servo.Intervals{PutInstanceHealthInterval: 30, PutMetricInterval: 60}
	}
	edit(&c.description.LoadBalancers[0])
	c.revision++
	c.description.Revision = "r" + strconv.Itoa(c.revision)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCloud) set(edit func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit()
}

func (c *fakeCloud) stateOf(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.states[id]
}

// reportCount is how often elb was told of backends.
func (c *fakeCloud) reportCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reports
}

func (c *fakeCloud) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" {
		_, _ = io.WriteString(w, "imds-token")
		return
	}
	if r.Header.Get("X-aws-ec2-metadata-token") != "imds-token" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch r.URL.Path {
	case "/latest/meta-data/public-keys/":
		_, _ = io.WriteString(w, "0=login")
	case "/latest/meta-data/public-keys/0/openssh-key":
		_, _ = io.WriteString(w, c.publicKey)
	case "/latest/meta-data/instance-id":
		_, _ = io.WriteString(w, guestID)
	case "/latest/meta-data/iam/security-credentials/":
		_, _ = io.WriteString(w, roleName)
	case "/latest/meta-data/iam/security-credentials/" + roleName:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.issued++
		id := keyID + strconv.Itoa(c.issued)
		c.accepted[id] = true
		_, _ = fmt.Fprintf(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,
			"Expiration":%q}`, id, secretKey, token, time.Now().Add(c.credentials).UTC().Format(time.RFC3339))
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
		refuse(w, http.StatusBadRequest, "MalformedQueryString")
		return
	}
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken != nil && broken(form.Get("Action"), w, r) {
		return
	}
	if code := c.authenticate(r, body); code != "" {
		refuse(w, http.StatusForbidden, code)
		return
	}
	switch form.Get("Action") {
	case servo.DescribeAction:
		c.describe(w, r, form)
	case servo.PutAction:
		c.put(w, form)
	case keydelivery.Action:
		c.download(w, r, form)
	default:
		refuse(w, http.StatusBadRequest, "InvalidAction")
	}
}

// authenticate signs the request again, as a cloud does, and compares.
func (c *fakeCloud) authenticate(r *http.Request, body []byte) (code string) {
	authorization := r.Header.Get("Authorization")
	_, rest, _ := strings.Cut(authorization, "Credential=")
	scope, _, _ := strings.Cut(rest, ",")
	parts := strings.Split(scope, "/")
	if len(parts) != 5 || r.Header.Get("X-Amz-Security-Token") != token {
		return "IncompleteSignature"
	}
	c.mu.Lock()
	known := c.accepted[parts[0]]
	c.mu.Unlock()
	if !known {
		return "ExpiredToken"
	}
	when, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(when).Abs() > 15*time.Minute {
		return "SignatureDoesNotMatch"
	}
	target := "https://" + r.Host + r.URL.Path
	again, err := http.NewRequestWithContext(r.Context(), r.Method, target, bytes.NewReader(body))
	if err != nil {
		return "InternalFailure"
	}
	again.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	digest := sha256.Sum256(body)
	credentials := aws.Credentials{AccessKeyID: parts[0], SecretAccessKey: secretKey, SessionToken: token}
	err = v4.NewSigner().SignHTTP(r.Context(), credentials, again, hex.EncodeToString(digest[:]), parts[3], parts[2], when)
	if err != nil || again.Header.Get("Authorization") != authorization {
		return "SignatureDoesNotMatch"
	}
	return ""
}

func (c *fakeCloud) describe(w http.ResponseWriter, r *http.Request, form url.Values) {
	instance, revision, wait, err := servo.ParseDescribe(form)
	if err != nil || instance != guestID {
		refuse(w, http.StatusForbidden, "AccessDenied")
		return
	}
	c.mu.Lock()
	changed := c.changed
	same := revision != "" && revision == c.description.Revision
	c.mu.Unlock()
	if same {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-changed:
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	c.mu.Lock()
	answer, err := c.description.MarshalXMLBody("request")
	c.mu.Unlock()
	if err != nil {
		c.t.Error(err)
	}
	_, _ = w.Write(answer)
}

func (c *fakeCloud) put(w http.ResponseWriter, form url.Values) {
	states, err := servo.ParseStates(form)
	if err != nil {
		refuse(w, http.StatusBadRequest, "ValidationError")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(states.Instances) > 0 {
		c.reports++
	}
	for id, state := range states.Instances {
		c.states[id] = state
	}
	c.metrics = append(c.metrics, states.Metrics...)
	_, _ = io.WriteString(w, "<PutServoStatesResponse/>")
}

func (c *fakeCloud) download(w http.ResponseWriter, r *http.Request, form url.Values) {
	request, err := keydelivery.ParseRequest(form)
	if err != nil {
		refuse(w, http.StatusBadRequest, "ValidationError")
		return
	}
	verified, err := c.checker.Verify(r.Context(), request, keydelivery.Session{ID: "session", InstanceID: guestID})
	if err != nil {
		c.t.Logf("denied: %v", err)
		refuse(w, http.StatusForbidden, "NotAuthorized")
		return
	}
	c.mu.Lock()
	c.downloads[request.ARN]++
	user, code := c.users[request.ARN], c.withdrawn[request.ARN]
	c.mu.Unlock()
	if user == nil && code == "" {
		code = "NoSuchEntity"
	}
	if code != "" {
		refuse(w, http.StatusForbidden, code)
		return
	}
	answer, err := c.authority.Answer(verified, user.certPEM(), user.keyPEM(c.t))
	if err != nil {
		c.t.Error(err)
		return
	}
	body, err := answer.MarshalXMLBody("request")
	if err != nil {
		c.t.Error(err)
	}
	_, _ = w.Write(body)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, errorBody(code))
}

// medium makes what the node writes on a floppy for this instance.
func (c *fakeCloud) medium(instance string, notAfter time.Time) *keydelivery.Medium {
	c.t.Helper()
	key, text, err := keydelivery.NewLBKey()
	if err != nil {
		c.t.Fatal(err)
	}
	certificate, err := c.authority.SignLBCert(instance, key.Public(), time.Now(), notAfter)
	if err != nil {
		c.t.Fatal(err)
	}
	return &keydelivery.Medium{
		LBCertPEM: certificate, IAMCertPEM: c.authority.CertificatePEM(), CloudCertPEM: c.ca.certPEM(), LBKey: text,
		Boot: keydelivery.Boot{
			FormatVersion: keydelivery.BootFormat, InstanceID: instance,
			Endpoints: map[string]string{"iam": "https://" + apiIP + ":443", "elb": "https://" + apiIP + ":443"},
			CAPEM:     string(c.ca.certPEM()), Entropy: make([]byte, keydelivery.EntropySize), Region: "us-east-1",
		},
	}
}
