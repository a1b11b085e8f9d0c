package imds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

var (
	now    = time.Date(2026, time.March, 4, 5, 6, 7, 0, time.UTC)
	secret = "wJalr/secret+key"
)

// source is a Source of two instances.
type source struct {
	instances map[string]Instance
	err       error
	asked     atomic.Int32
}

func (s *source) Instance(id string) (Instance, bool) {
	in, ok := s.instances[id]
	return in, ok
}

func (s *source) RoleCredentials(ctx context.Context, id string) (Credentials, error) {
	s.asked.Add(1)
	if _, ok := ctx.Deadline(); !ok {
		return Credentials{}, errors.New("asked without a deadline")
	}
	return Credentials{
		AccessKeyID: "ASIA" + id, SecretAccessKey: secret, Token: "session+token/of==" + id,
		LastUpdated: now, Expiration: now.Add(time.Hour),
	}, s.err
}

func newSource() *source {
	full := Instance{
		ID: "i-0123456789abcdef0", AccountID: "000000000001", ImageID: "ami-00000000000000001", Type: "t3.nano",
		ReservationID: "r-00000000000000001", LaunchTime: now.Add(-time.Hour),
		PrivateIP: netip.MustParseAddr("10.64.0.5"), PublicIP: netip.MustParseAddr("127.130.0.5"), MAC: "02:00:0a:40:00:05",
		Region: "us-east-1", AvailabilityZone: "us-east-1a", AvailabilityZoneID: "use1-az1",
		RoleName: "loadbalancer-vm-1-web", InstanceProfileARN: "arn:aws:iam::000000000001:instance-profile/p",
		InstanceProfileID: "AIPA1", UserData: []byte("\x00user\xffdata"),
		PublicKeys: []PublicKey{{Name: "ops", Key: "ssh-ed25519 AAAA ops"}, {Name: "dev", Key: "ssh-ed25519 BBBB dev"}},
		Tags:       map[string]string{"Name": "web one", "a/b": "hidden", "team:x": "red"},
		Options:    Options{Tags: true},
	}
	return &source{instances: map[string]Instance{
		full.ID: full,
		"i-bare": {ID: "i-bare", Region: "eu-west-1", PrivateIP: netip.MustParseAddr("10.64.0.6"),
			Tags: map[string]string{"Name": "hidden"}},
		"i-orphan":   {ID: "i-orphan", InstanceProfileARN: "arn:aws:iam::000000000001:instance-profile/gone"},
		"i-strict":   {ID: "i-strict", Options: Options{TokensRequired: true, HopLimit: 3}},
		"i-disabled": {ID: "i-disabled", Options: Options{Disabled: true}},
	}}
}

const fullID = "i-0123456789abcdef0"

// request asks as an instance, whom the header X-Test-Instance names in place of a network.
type idKey struct{}

func identify(ctx context.Context) (string, bool) {
	id, ok := ctx.Value(idKey{}).(string)
	return id, ok
}

func ask(h http.Handler, instance, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequestWithContext(context.WithValue(context.Background(), idKey{}, instance), method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newHandler(s Source) http.Handler {
	return New(Config{Source: s, InstanceFrom: identify, Clock: func() time.Time { return now }})
}

// golden is the identity document of the first instance of newSource, as package ec2 of the cloud signs it.
func golden(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../fixtures/metadata/identity-document.json")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func lines(s ...string) string { return strings.Join(s, "\n") }

func TestGet(t *testing.T) {
	h := newHandler(newSource())
	tests := []struct {
		name, instance, path, want string
	}{
		{"versions", fullID, "/", strings.Join(versions, "\n")},
		{"version", fullID, "/latest", lines("dynamic", "meta-data", "user-data")},
		{"version without user data", "i-bare", "/latest/", lines("dynamic", "meta-data")},
		{
			"meta-data",
			fullID,
			"/latest/meta-data/",
			lines("ami-id", "ami-launch-index", "ami-manifest-path", "block-device-mapping/", "hostname", "iam/",
				"instance-action", "instance-id", "instance-life-cycle", "instance-type", "local-hostname", "local-ipv4", "mac",
				"network/", "placement/", "profile", "public-ipv4", "public-keys/", "reservation-id", "security-groups",
				"services/", "tags/"),
		},
		{
			"meta-data without a slash",
			"i-bare",
			"/2009-04-04/meta-data",
			lines("ami-launch-index", "ami-manifest-path", "block-device-mapping/", "hostname",
				"instance-action", "instance-id", "instance-life-cycle", "local-hostname", "local-ipv4", "placement/", "profile",
				"security-groups", "services/"),
		},
		{"ami id", fullID, "/latest/meta-data/ami-id", "ami-00000000000000001"},
		{"instance id", fullID, "/2016-09-02/meta-data/instance-id", fullID},
		{"instance id of another", "i-bare", "/latest/meta-data/instance-id", "i-bare"},
		{"slash behind an item", fullID, "/latest/meta-data/instance-id/", fullID},
		{"doubled slashes", fullID, "//latest//meta-data//instance-id", fullID},
		{"instance type", fullID, "/2018-09-24/meta-data/instance-type", "t3.nano"},
		{"address", fullID, "/2021-03-23/meta-data/local-ipv4", "10.64.0.5"},
		{"hostname", fullID, "/1.0/meta-data/local-hostname", "ip-10-64-0-5.ec2.internal"},
		{"hostname elsewhere", "i-bare", "/latest/meta-data/hostname", "ip-10-64-0-6.eu-west-1.compute.internal"},
		{"mac", fullID, "/latest/meta-data/mac", "02:00:0a:40:00:05"},
		{"cards", fullID, "/latest/meta-data/network/interfaces/macs/", "02:00:0a:40:00:05/"},
		{"card", fullID, "/latest/meta-data/network/interfaces/macs/02:00:0a:40:00:05/",
			lines("device-number", "interface-id", "ipv4-associations/", "local-hostname", "local-ipv4s", "mac",
				"network-card", "owner-id", "public-ipv4s", "security-groups")},
		{"public address of a card", fullID, "/latest/meta-data/network/interfaces/macs/02:00:0a:40:00:05/public-ipv4s",
			"127.130.0.5"},
		{"whose it is", fullID,
			"/latest/meta-data/network/interfaces/macs/02:00:0a:40:00:05/ipv4-associations/127.130.0.5", "10.64.0.5"},
		{"public address", fullID, "/latest/meta-data/public-ipv4", "127.130.0.5"},
		{"owner", fullID, "/latest/meta-data/network/interfaces/macs/02:00:0a:40:00:05/owner-id", "000000000001"},
		{"card's id", fullID, "/latest/meta-data/network/interfaces/macs/02:00:0a:40:00:05/interface-id",
			"eni-0123456789abcdef0"},
		{"devices", fullID, "/latest/meta-data/block-device-mapping/", lines("ami", "root")},
		{"root device", fullID, "/latest/meta-data/block-device-mapping/root", "/dev/sda1"},
		{"zone's id", fullID, "/latest/meta-data/placement/availability-zone-id", "use1-az1"},
		{"zone", fullID, "/latest/meta-data/placement/availability-zone", "us-east-1a"},
		{"region", fullID, "/latest/meta-data/placement/region", "us-east-1"},
		{"region alone", "i-bare", "/latest/meta-data/placement/", "region"},
		{"reservation", fullID, "/latest/meta-data/reservation-id", "r-00000000000000001"},
		{"groups", fullID, "/latest/meta-data/security-groups", "default"},
		{"iam", fullID, "/latest/meta-data/iam/", lines("info", "security-credentials/")},
		{"role", fullID, "/latest/meta-data/iam/security-credentials/", "loadbalancer-vm-1-web"},
		{"role without a slash", fullID, "/latest/meta-data/iam/security-credentials", "loadbalancer-vm-1-web"},
		{"profile", fullID, "/latest/meta-data/iam/info", `{
  "Code" : "Success",
  "LastUpdated" : "2026-03-04T04:06:07Z",
  "InstanceProfileArn" : "arn:aws:iam::000000000001:instance-profile/p",
  "InstanceProfileId" : "AIPA1"
}`},
		{"profile that was deleted", "i-orphan", "/latest/meta-data/iam/info", `{
  "Code" : "InstanceProfileNotFound",
  "Message" : "Instance Profile cannot be found. It was deleted, or another has its name now.",
  "LastUpdated" : "2026-03-04T05:06:07Z"
}`},
		{"its role", "i-orphan", "/latest/meta-data/iam/", "info"},
		{"credentials", fullID, "/latest/meta-data/iam/security-credentials/loadbalancer-vm-1-web", `{
  "Code" : "Success",
  "LastUpdated" : "2026-03-04T05:06:07Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIAi-0123456789abcdef0",
  "SecretAccessKey" : "wJalr/secret+key",
  "Token" : "session+token/of==i-0123456789abcdef0",
  "Expiration" : "2026-03-04T06:06:07Z"
}`},
		{"keys", fullID, "/latest/meta-data/public-keys/", lines("0=ops", "1=dev")},
		{"key", fullID, "/latest/meta-data/public-keys/1/", "openssh-key"},
		{"key itself", fullID, "/latest/meta-data/public-keys/1/openssh-key", "ssh-ed25519 BBBB dev"},
		{"tags", fullID, "/latest/meta-data/tags/instance/", lines("Name", "team:x")},
		{"tag", fullID, "/latest/meta-data/tags/instance/Name", "web one"},
		{"partition", fullID, "/latest/meta-data/services/partition", "aws"},
		{"dynamic", fullID, "/latest/dynamic/", "instance-identity/"},
		{"identity", fullID, "/latest/dynamic/instance-identity/", "document"},
		{"identity document", fullID, "/latest/dynamic/instance-identity/document", golden(t)},
		{"user data", fullID, "/latest/user-data", "\x00user\xffdata"},
		{"nobody signs", fullID, "/latest/dynamic/instance-identity", "document"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			resp := ask(h, tc.instance, http.MethodGet, tc.path)
			if d := cmp.Diff(tc.want, body(t, resp)); d != "" || resp.StatusCode != http.StatusOK {
				t.Errorf("%s\n%s", resp.Status, d)
			}
			want := "text/plain"
			if strings.HasSuffix(tc.path, "user-data") {
				want = "application/octet-stream"
			}
			if got := resp.Header.Get("Content-Type"); got != want {
				t.Errorf("Content-Type %s, want %s", got, want)
			}
			head := ask(h, tc.instance, http.MethodHead, tc.path)
			if body(t, head) != "" || head.StatusCode != http.StatusOK || head.ContentLength != int64(len(tc.want)) {
				t.Errorf("HEAD: %s, %d bytes", head.Status, head.ContentLength)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	src := newSource()
	h := newHandler(src)
	token := body(t, ask(h, fullID, http.MethodPut, "/latest/api/token", ttlHeader, "60"))
	tests := []struct {
		name, instance, method, path string
		headers                      []string
		want                         int
	}{
		{"unknown instance", "i-gone", "GET", "/latest/meta-data/", nil, 404},
		{"disabled", "i-disabled", "GET", "/latest/meta-data/", nil, 403},
		{"token of disabled", "i-disabled", "PUT", "/latest/api/token", []string{ttlHeader, "60"}, 403},
		{"no token where required", "i-strict", "GET", "/latest/meta-data/", nil, 401},
		{"versions need a token too", "i-strict", "GET", "/", nil, 401},
		{"missing item needs a token too", "i-strict", "GET", "/latest/none", nil, 401},
		{"empty token", "i-strict", "GET", "/latest/meta-data/", []string{tokenHeader, ""}, 401},
		{"bad token where not required", fullID, "GET", "/latest/meta-data/", []string{tokenHeader, "bad"}, 401},
		{"another's token", "i-strict", "GET", "/latest/meta-data/", []string{tokenHeader, token}, 401},
		{"unknown version", fullID, "GET", "/2030-01-01/meta-data/", nil, 404},
		{"unknown item", fullID, "GET", "/latest/meta-data/none", nil, 404},
		{"below an item", fullID, "GET", "/latest/meta-data/instance-id/x", nil, 404},
		{"below user data", fullID, "GET", "/latest/user-data/x", nil, 404},
		{"below credentials", fullID, "GET", "/latest/meta-data/iam/security-credentials/loadbalancer-vm-1-web/x", nil, 404},
		{"below a key", fullID, "GET", "/latest/meta-data/public-keys/0/openssh-key/x", nil, 404},
		{"no such key", fullID, "GET", "/latest/meta-data/public-keys/2/openssh-key", nil, 404},
		{"another role", fullID, "GET", "/latest/meta-data/iam/security-credentials/other", nil, 404},
		{"no role", "i-bare", "GET", "/latest/meta-data/iam/security-credentials/", nil, 404},
		{"no user data", "i-bare", "GET", "/latest/user-data", nil, 404},
		{"tags not enabled", "i-bare", "GET", "/latest/meta-data/tags/instance/Name", nil, 404},
		{"upward", fullID, "GET", "/latest/meta-data/../user-data", nil, 404},
		{"POST", fullID, "POST", "/latest/meta-data/", nil, 405},
		{"DELETE", fullID, "DELETE", "/", nil, 405},
		{"PUT elsewhere", fullID, "PUT", "/latest/meta-data/", []string{ttlHeader, "60"}, 405},
		{"GET of the token", fullID, "GET", "/latest/api/token", nil, 405},
		{"token of an unknown version", fullID, "PUT", "/none/api/token", []string{ttlHeader, "60"}, 405},
		{"no TTL", fullID, "PUT", "/latest/api/token", nil, 400},
		{"TTL zero", fullID, "PUT", "/latest/api/token", []string{ttlHeader, "0"}, 400},
		{"TTL too long", fullID, "PUT", "/latest/api/token", []string{ttlHeader, "21601"}, 400},
		{"TTL negative", fullID, "PUT", "/latest/api/token", []string{ttlHeader, "-1"}, 400},
		{"TTL overflows", fullID, "PUT", "/latest/api/token", []string{ttlHeader, "18446744073709551617"}, 400},
		{"TTL with a unit", fullID, "PUT", "/latest/api/token", []string{ttlHeader, "60s"}, 400},
		{
			"through a proxy",
			fullID,
			"PUT",
			"/latest/api/token",
			[]string{ttlHeader, "60", "X-Forwarded-For", "10.0.0.1"},
			403,
		},
		{"through a proxy that says nothing", fullID, "PUT", "/latest/api/token",
			[]string{ttlHeader, "60", "X-Forwarded-For", ""}, 403},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			resp := ask(h, tc.instance, tc.method, tc.path, tc.headers...)
			if resp.StatusCode != tc.want {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.want)
			}
			title := "<title>" + resp.Status[:3] + " - " + http.StatusText(tc.want) + "</title>"
			if page := body(t, resp); !strings.Contains(page, title) {
				t.Errorf("page has no %s:\n%s", title, page)
			}
		})
	}
	if n := src.asked.Load(); n != 0 {
		t.Errorf("credentials were made %d times for requests that were refused", n)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/latest/meta-data/", nil)
	r.Header.Set("X-Forwarded-For", "10.64.0.5")
	r.RemoteAddr = "10.64.0.5:1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("a request without an identity: %d", w.Code)
	}
}

func TestSourceErrors(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want int
		body string
	}{
		{"role went away", ErrNoRole, 404, "404"},
		{"cloud is away", errors.New("dial: secret-looking detail"), 503, "503 - Service Unavailable"},
		{"deadline", context.DeadlineExceeded, 503, "503"},
		{"not allowed", ErrUnauthorized, 200, `"Code" : "AssumeRoleUnauthorizedAccess"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			src := newSource()
			src.err = tc.err
			var logged strings.Builder
			h := New(Config{Source: src, InstanceFrom: identify, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			resp := ask(h, fullID, http.MethodGet, "/latest/meta-data/iam/security-credentials/loadbalancer-vm-1-web")
			if got := body(t, resp); resp.StatusCode != tc.want || !strings.Contains(got, tc.body) ||
				strings.Contains(got, "detail") {
				t.Errorf("%s: %s", resp.Status, got)
			}
			if strings.Contains(logged.String(), secret) {
				t.Error("the secret is in the log")
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{TokenKey: []byte("short")}.Validate()
	for _, want := range []string{"source", "instance from", "token key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not tell about %s", err, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("New accepts an empty configuration")
		}
	}()
	New(Config{})
}

// FuzzPath: no path makes the service panic, and none but the role's own gives credentials.
func FuzzPath(f *testing.F) {
	src := newSource()
	h := newHandler(src)
	for _, p := range []string{
		"/", "/latest", "/latest/meta-data/", "/latest/user-data", "/latest/api/token",
		"/latest/dynamic/instance-identity/document",
		"/latest/meta-data/iam/security-credentials/loadbalancer-vm-1-web", "/latest/meta-data/public-keys/0/openssh-key",
		"/latest/meta-data/tags/instance/Name", "//..//%00", "/1.0/meta-data/network/interfaces/macs/",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		bounded.Memory(t, len(path), func() {
			r := httptest.NewRequestWithContext(context.WithValue(t.Context(), idKey{}, fullID), http.MethodGet, "/", nil)
			r.URL.Path = path
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			switch w.Code {
			case 200, 404, 405:
			default:
				t.Errorf("status %d", w.Code)
			}
			parts := splitPath(path)
			role := len(parts) == 5 && parts[4] == "loadbalancer-vm-1-web" && parts[3] == "security-credentials"
			if strings.Contains(w.Body.String(), secret) && !role {
				t.Errorf("credentials at %q", path)
			}
		})
	})
}
