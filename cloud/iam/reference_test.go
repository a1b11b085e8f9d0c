package iam_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/fixtures/delivery"
)

// credentialOf is the medium's file for an identity, read back by the reference's reader.
func (s *scene) credentialOf(t *testing.T, id keydelivery.Identity) *delivery.Credential {
	t.Helper()
	profile, err := id.Profile()
	if err != nil {
		t.Fatal(err)
	}
	iamCert, err := s.IAMCertificateOf(profile)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	data, err := json.Marshal(map[string]string{
		"instance_pub_key": b64(id.CertPEM) + "  ", "instance_pk": b64(id.Key), "iam_pub_key": b64(iamCert),
		"euca_pub_key": b64(iamCert), "iam_token": "NULL ",
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := delivery.ReadCredential(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *scene) answer(t *testing.T, form url.Values) []byte {
	t.Helper()
	_, body, err := s.DownloadServerCertificate(authn.WithCaller(t.Context(), s.caller), form)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestReferenceClients has a client of each profile, written from the protocol's description alone, served by one
// cloud; also after the cloud was started anew.
func TestReferenceClients(t *testing.T) {
	s := newScene(t, func(c *iam.Config) { c.MinDeliveryProfile = keydelivery.Profile1 })
	wantKey := strings.TrimSpace(s.pair.key)
	rsaIdentity := s.rsaIdentity(t, instanceA)
	client1, err := delivery.NewClient1(s.credentialOf(t, rsaIdentity))
	if err != nil {
		t.Fatal(err)
	}
	client2, err := delivery.NewClient2(s.credentialOf(t, s.identity))
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"first", "after a new start"} {
		form, err := client1.Request(s.arn, s.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		opened, err := client1.Open(s.answer(t, form), s.arn)
		if err != nil || strings.TrimSpace(string(opened.Key)) != wantKey {
			t.Errorf("%s: profile 1: %v", when, err)
		}
		if ev := s.lastEvent(t); ev.Attributes["profile"] != "1" || ev.Attributes["nonce"] != "" {
			t.Errorf("%s: the audit says %v", when, ev.Attributes)
		}
		if form, err = client2.Request(s.arn, s.clock.Now()); err != nil {
			t.Fatal(err)
		}
		opened, err = client2.Open(s.answer(t, form), form)
		if err != nil || strings.TrimSpace(string(opened.Key)) != wantKey {
			t.Errorf("%s: profile 2: %v", when, err)
		}
		s.Service = startService(t, s.config)
		s.clock.Advance(time.Minute)
	}
}
