package keydelivery_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func revokeAll(context.Context, *x509.Certificate) (string, error) { return "by a test", nil }

func TestSecretNeverShows(t *testing.T) {
	s := keydelivery.Secret("swordfish")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("test", "key", s)
	asJSON, err := json.Marshal(map[string]any{"key": s, "nested": struct{ K keydelivery.Secret }{s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %X %d", s, s, s, s, s, s, s, s), s.String(),
		fmt.Sprintf("%v", keydelivery.Identity{Key: s}), log.String(), string(asJSON),
		fmt.Sprintf("%x", struct{ K keydelivery.Secret }{s}),
	} {
		for _, trace := range []string{"swordfish", "73776f7264", "115 119", "c3dvcmRm"} {
			if strings.Contains(strings.ToLower(shown), trace) {
				t.Errorf("shown as %s", shown)
			}
		}
	}
	s.Wipe()
	if !bytes.Equal(s, make([]byte, 9)) {
		t.Error("Wipe left bytes")
	}
}

func TestParseUserData(t *testing.T) {
	kw := keydelivery.Keyword
	tests := []struct {
		name, in, payload string
		days              int
		wanted, bad       bool
	}{
		{name: "plain", in: "#!/bin/sh\n", payload: "#!/bin/sh\n"},
		{name: "empty"},
		{name: "keyword", in: kw + ":30\nrest\n", payload: "rest\n", days: 30, wanted: true},
		{name: "keyword alone", in: kw, days: keydelivery.DefaultDays, wanted: true},
		{name: "windows line end", in: kw + ":7\r\nrest", payload: "rest", days: 7, wanted: true},
		{name: "keyword in the second line", in: "x\n" + kw + ":30\n", payload: "x\n" + kw + ":30\n"},
		{name: "longer word", in: kw + "x:30\n", payload: kw + "x:30\n"},
		{name: "no number", in: kw + ":many\n", wanted: true, bad: true},
		{name: "zero days", in: kw + ":0\n", wanted: true, bad: true},
		{name: "too many days", in: kw + ":99999\n", wanted: true, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			payload, days, wanted, err := keydelivery.ParseUserData([]byte(tt.in))
			if (err != nil) != tt.bad || wanted != tt.wanted || days != tt.days || string(payload) != tt.payload {
				t.Errorf("got %q, %d, %t, %v", payload, days, wanted, err)
			}
		})
	}
	payload, days, wanted, err := keydelivery.ParseUserData(keydelivery.WithKeyword(12, []byte("x")))
	if string(payload) != "x" || days != 12 || !wanted || err != nil {
		t.Errorf("WithKeyword does not come back: %q, %d, %t, %v", payload, days, wanted, err)
	}
}

func newNode(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{PublicKey: &key.PublicKey}, key
}

func TestCredentialOpensForItsNodeAndInstanceOnly(t *testing.T) {
	w := newWorld(t)
	node, nodeKey := newNode(t)
	_, otherKey := newNode(t)
	seal := func() *keydelivery.Credential {
		c, err := keydelivery.SealCredential(node, "node-a", instance, w.id, w.authority.CertificatePEM())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	tests := []struct {
		name           string
		key            *ecdsa.PrivateKey
		node, instance string
		alter          func(*keydelivery.Credential)
		ok             bool
	}{
		{name: "as sent", ok: true},
		{name: "another node's key", key: otherKey},
		{name: "another node", node: "node-b"},
		{name: "another instance", instance: "i-other"},
		{name: "key and certificate exchanged", alter: func(c *keydelivery.Credential) {
			c.SealedKey, c.SealedCert = c.SealedCert, c.SealedKey
		}},
		{
			name:  "key altered",
			alter: func(c *keydelivery.Credential) { c.SealedKey = c.SealedKey[:len(c.SealedKey)-4] + "AAAA" },
		},
		{name: "no JWE", alter: func(c *keydelivery.Credential) { c.SealedKey = "hello" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, key, nodeID, id := seal(), nodeKey, "node-a", instance
			if tt.key != nil {
				key = tt.key
			}
			if tt.node != "" {
				nodeID = tt.node
			}
			if tt.instance != "" {
				id = tt.instance
			}
			if tt.alter != nil {
				tt.alter(c)
			}
			got, err := c.Open(key, nodeID, id)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v, want ok = %t", err, tt.ok)
			}
			if tt.ok && !bytes.Equal(got.Key, w.id.Key) {
				t.Error("another key came out")
			}
		})
	}
}

func TestAtRestOpensForItsPurposeOnly(t *testing.T) {
	w := newWorld(t)
	sealed, err := w.authority.SealAtRest("server-certificate/a", keydelivery.Secret("swordfish"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.authority.OpenAtRest("server-certificate/a", sealed); err != nil || string(got) != "swordfish" {
		t.Errorf("own purpose: %v", err)
	}
	if _, err := w.authority.OpenAtRest("server-certificate/b", sealed); err == nil {
		t.Error("opened for another purpose")
	}
	key, err := w.authority.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := keydelivery.LoadAuthority(w.authority.CertificatePEM(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.OpenAtRest("server-certificate/a", sealed); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	stranger, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keydelivery.LoadAuthority(stranger.CertificatePEM(), key); err == nil {
		t.Error("a key was accepted with another's certificate")
	}
}

func newMedium(t testing.TB) *keydelivery.Medium {
	w := newWorld(t)
	return &keydelivery.Medium{
		LBCertPEM: w.id.CertPEM, LBKey: w.id.Key, IAMCertPEM: w.authority.CertificatePEM(), CloudCertPEM: w.certPEM,
		Boot: keydelivery.Boot{FormatVersion: keydelivery.BootFormat, InstanceID: instance, CAPEM: "pem", Region: "us-east-1",
			Endpoints: map[string]string{
				"iam": "https://a",
				"elb": "https://a",
			}, Entropy: make([]byte, keydelivery.EntropySize)},
	}
}

func mediumFS(t testing.TB, m *keydelivery.Medium) fstest.MapFS {
	t.Helper()
	files, err := m.Files()
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func TestMediumRoundTrip(t *testing.T) {
	want := newMedium(t)
	fsys := mediumFS(t, want)
	fsys[keydelivery.CredentialFile].Data = append(fsys[keydelivery.CredentialFile].Data, "   \n  "...)
	got, err := keydelivery.ReadMedium(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.LBKey, want.LBKey) || got.Boot.InstanceID != instance ||
		!bytes.Equal(got.LBCertPEM, want.LBCertPEM) {
		t.Error("what was read is not what was written")
	}
	var raw map[string]string
	if err := json.Unmarshal(fsys[keydelivery.CredentialFile].Data, &raw); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"instance_pub_key", "iam_pub_key", "iam_token", "euca_pub_key", "instance_pk"} {
		if raw[name] == "" {
			t.Errorf("field %s is missing", name)
		}
	}
}

func TestReadMediumRefuses(t *testing.T) {
	tests := []struct {
		name   string
		alter  func(fstest.MapFS)
		naming string
	}{
		{name: "no credential", alter: func(f fstest.MapFS) { delete(f, "credential") }, naming: "credential"},
		{name: "no boot file", alter: func(f fstest.MapFS) { delete(f, "cloudtwin.json") }, naming: "cloudtwin.json"},
		{
			name:   "truncated",
			alter:  func(f fstest.MapFS) { f["credential"].Data = f["credential"].Data[:200] },
			naming: "credential",
		},
		{name: "too long", alter: func(f fstest.MapFS) { f["credential"].Data = make([]byte, 70<<10) }, naming: "longer"},
		{name: "another instance's boot file", alter: func(f fstest.MapFS) {
			f["cloudtwin.json"].Data = bytes.Replace(f["cloudtwin.json"].Data, []byte(instance), []byte("i-other"), 1)
		}, naming: "i-other"},
		{name: "another version", alter: func(f fstest.MapFS) {
			f["cloudtwin.json"].Data = bytes.Replace(
				f["cloudtwin.json"].Data,
				[]byte(`"formatVersion":1`),
				[]byte(`"formatVersion":9`),
				1,
			)
		}, naming: "formatVersion"},
		{name: "short entropy", alter: func(f fstest.MapFS) {
			f["cloudtwin.json"].Data = bytes.Replace(f["cloudtwin.json"].Data, []byte("AAAAAAAA"), []byte("AAAA"), 1)
		}, naming: "entropy"},
		{name: "another floppy's credential", alter: func(f fstest.MapFS) {
			var a, b map[string]string
			other := mediumFS(t, newMedium(t))
			_ = json.Unmarshal(f["credential"].Data, &a)
			_ = json.Unmarshal(other["credential"].Data, &b)
			a["instance_pk"] = b["instance_pk"]
			f["credential"].Data, _ = json.Marshal(a)
		}, naming: "LBPK"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := mediumFS(t, newMedium(t))
			tt.alter(fsys)
			_, err := keydelivery.ReadMedium(fsys)
			if !errors.Is(err, keydelivery.ErrMedium) || !strings.Contains(err.Error(), tt.naming) {
				t.Errorf("got %v, want ErrMedium naming %q", err, tt.naming)
			}
		})
	}
}

func TestParseRequestNamesTheField(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{
		"CertificateArn", "DelegationCertificate", "Timestamp", "Signature", "Profile", "Nonce",
	} {
		form := w.request(t, w.id, now).Form()
		if name != "Profile" {
			form.Del(name)
		} else {
			form.Set(name, "3")
		}
		_, err := keydelivery.ParseRequest(form)
		if !errors.Is(err, keydelivery.ErrRequest) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestNonceHasOneSpelling(t *testing.T) {
	w := newWorld(t)
	form := w.request(t, w.id, now).Form()
	if _, err := keydelivery.ParseRequest(form); err != nil {
		t.Fatal(err)
	}
	nonce := form.Get("Nonce")
	for _, other := range []string{nonce + "\n", "\r" + nonce, nonce[:10] + "\n" + nonce[10:], nonce[:43], nonce + "="} {
		form.Set("Nonce", other)
		if _, err := keydelivery.ParseRequest(form); !errors.Is(err, keydelivery.ErrRequest) {
			t.Errorf("nonce %q: error %v, want ErrRequest", other, err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	w := newWorld(f)
	f.Add(w.request(f, w.id, now).Form().Encode())
	f.Fuzz(func(t *testing.T, query string) {
		bounded.Memory(t, len(query), func() {
			form, err := url.ParseQuery(query)
			if err != nil {
				return
			}
			if r, err := keydelivery.ParseRequest(form); err == nil {
				_, _ = w.checker.Verify(t.Context(), r, session)
			}
		})
	})
}

func FuzzReadMedium(f *testing.F) {
	fsys := mediumFS(f, newMedium(f))
	f.Add(fsys["credential"].Data, fsys["cloudtwin.json"].Data)
	f.Fuzz(func(t *testing.T, credential, boot []byte) {
		bounded.Memory(t, len(credential)+len(boot), func() {
			_, _ = keydelivery.ReadMedium(fstest.MapFS{
				"credential": &fstest.MapFile{Data: credential}, "cloudtwin.json": &fstest.MapFile{Data: boot},
			})
		})
	})
}

func FuzzParseAnswer(f *testing.F) {
	answer := &keydelivery.Answer{CertificateARN: arn, ServerCertificate: "a", ServerPk: "b", Signature: "c"}
	body, err := answer.MarshalXMLBody("r")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Memory(t, len(data), func() { _, _ = keydelivery.ParseAnswer(data) })
	})
}
