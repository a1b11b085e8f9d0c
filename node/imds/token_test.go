package imds

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	sdk "github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

func TestTokenLife(t *testing.T) {
	clock := now
	var hops []int
	h := New(Config{
		Source: newSource(), InstanceFrom: identify, Clock: func() time.Time { return clock },
		SetHopLimit: func(_ context.Context, n int) error {
			hops = append(hops, n)
			return io.ErrClosedPipe // is logged and changes nothing
		},
	})
	resp := ask(h, "i-strict", http.MethodPut, "/latest/api/token", ttlHeader, "21600")
	token := body(t, resp)
	if resp.StatusCode != http.StatusOK || resp.Header.Get(ttlHeader) != "21600" || len(token) != 56 {
		t.Fatalf("%s, TTL %s, token of %d characters", resp.Status, resp.Header.Get(ttlHeader), len(token))
	}
	for _, tc := range []struct {
		after  time.Duration
		status int
		left   string
	}{
		{0, 200, "21600"}, {time.Hour, 200, "18000"}, {6*time.Hour - time.Second, 200, "1"}, {6 * time.Hour, 401, ""},
	} {
		clock = now.Add(tc.after)
		resp := ask(h, "i-strict", http.MethodGet, "/latest/meta-data/instance-id", tokenHeader, token)
		if resp.StatusCode != tc.status || resp.Header.Get(ttlHeader) != tc.left {
			t.Errorf("after %s: %s, %q left", tc.after, resp.Status, resp.Header.Get(ttlHeader))
		}
	}
	// It is set once and stays: what the guest asks after that may share the token's connection.
	if fmt.Sprint(hops) != "[3]" {
		t.Errorf("hop limits %v", hops)
	}
	hops = nil
	ask(h, fullID, http.MethodPut, "/latest/api/token", ttlHeader, "1")
	if fmt.Sprint(hops) != "[1]" {
		t.Errorf("hop limits by default %v", hops)
	}
}

func TestTokenForged(t *testing.T) {
	m := minter{key: bytes.Repeat([]byte{1}, tokenKeySize)}
	good := m.mint("i-a", now.Add(time.Minute))
	if left, ok := m.check(good, "i-a", now); !ok || left != time.Minute {
		t.Fatalf("good token: %s, %t", left, ok)
	}
	if good == m.mint("i-a", now.Add(time.Minute)) {
		t.Error("two tokens are equal")
	}
	raw, err := base64.URLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		forged := bytes.Clone(raw)
		forged[i] ^= 0x10
		if _, ok := m.check(base64.URLEncoding.EncodeToString(forged), "i-a", now); ok {
			t.Errorf("byte %d changed, and accepted", i)
		}
	}
	for _, tc := range []struct{ name, token, instance string }{
		{"another instance", good, "i-b"},
		{"no instance", good, ""},
		{"empty", "", "i-a"},
		{"cut off", good[:55], "i-a"},
		{"longer", good + "A", "i-a"},
		{"no base64", "!" + good[1:], "i-a"},
		{"line break", "\n" + good[1:], "i-a"},
		{"another key", minter{key: bytes.Repeat([]byte{2}, tokenKeySize)}.mint("i-a", now.Add(time.Minute)), "i-a"},
	} {
		if _, ok := m.check(tc.token, tc.instance, now); ok {
			t.Errorf("%s: accepted", tc.name)
		}
	}
}

// TestTokenKey: a service that was started again with its key knows its tokens, one with another does not.
func TestTokenKey(t *testing.T) {
	key := bytes.Repeat([]byte{7}, tokenKeySize)
	service := func(key []byte) http.Handler {
		return New(Config{Source: newSource(), InstanceFrom: identify, TokenKey: key})
	}
	token := body(t, ask(service(key), "i-strict", http.MethodPut, "/latest/api/token", ttlHeader, "60"))
	use := func(h http.Handler) int {
		return ask(h, "i-strict", http.MethodGet, "/latest/", tokenHeader, token).StatusCode
	}
	if got := use(service(key)); got != http.StatusOK {
		t.Errorf("same key: %d", got)
	}
	if got := use(service(nil)); got != http.StatusUnauthorized {
		t.Errorf("another key: %d", got)
	}
}

// TestSDK is the judgement of the AWS SDK's own clients.
func TestSDK(t *testing.T) {
	for _, id := range []string{fullID, "i-sdk"} { // with tokens optional and required
		src := newSource()
		in := src.instances[fullID]
		in.Options.TokensRequired = id == "i-sdk"
		in.ID = id
		src.instances[id] = in
		h := New(Config{Source: src, InstanceFrom: identify})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), idKey{}, id)))
		}))
		defer server.Close()
		client := sdk.New(sdk.Options{Endpoint: server.URL})
		doc, err := client.GetInstanceIdentityDocument(t.Context(), nil)
		if err != nil || doc.InstanceID != id || doc.Region != "us-east-1" || doc.PrivateIP != "10.64.0.5" {
			t.Errorf("identity document %+v, %v", doc, err)
		}
		region, err := client.GetRegion(t.Context(), nil)
		if err != nil || region.Region != "us-east-1" {
			t.Errorf("region %+v, %v", region, err)
		}
		info, err := client.GetIAMInfo(t.Context(), nil)
		if err != nil || info.InstanceProfileID != "AIPA1" {
			t.Errorf("profile %+v, %v", info, err)
		}
		data, err := client.GetUserData(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(data.Content); err != nil || string(b) != "\x00user\xffdata" {
			t.Errorf("user data %q, %v", b, err)
		}
		creds, err := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(t.Context())
		if err != nil || creds.SecretAccessKey != secret || creds.AccessKeyID != "ASIA"+id {
			t.Errorf("credentials of %s, %v", creds.AccessKeyID, err)
		}
	}
}
