package sts_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

func TestGetCallerIdentity(t *testing.T) {
	w := newWorld(t)
	out, err := w.GetCallerIdentity(w.root(t, home), &stsmodel.GetCallerIdentityInput{})
	if err != nil || *out.Arn != "arn:aws:iam::"+home+":root" || *out.UserId != home || *out.Account != home {
		t.Errorf("root is %+v, %v", out, err)
	}
	denied := statement(`{"Effect":"Deny","Action":"*","Resource":"*"}`)
	out, err = w.GetCallerIdentity(w.user(t, home, "alice", denied), &stsmodel.GetCallerIdentityInput{})
	if err != nil || *out.Arn != "arn:aws:iam::"+home+":user/alice" || !strings.HasPrefix(*out.UserId, "AIDA") {
		t.Errorf("alice is %+v, %v", out, err)
	}
	if _, err := w.GetCallerIdentity(t.Context(), &stsmodel.GetCallerIdentityInput{}); code(err) != "AccessDenied" {
		t.Errorf("nobody: %v", err)
	}
}

func TestGetSessionToken(t *testing.T) {
	w := newWorld(t)
	alice := w.user(t, home, "alice", "")
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	out, err := w.GetSessionToken(alice, &stsmodel.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Credentials.Expiration.Sub(start); got != 12*time.Hour {
		t.Errorf("lasts %v", got)
	}
	session := w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken)
	if got := authn.CallerFrom(session).ARN; got != "arn:aws:iam::"+home+":user/alice" {
		t.Errorf("session is %s", got)
	}
	if _, err := w.GetSessionToken(session, &stsmodel.GetSessionTokenInput{}); code(err) != "AccessDenied" {
		t.Errorf("from a session: %v", err)
	}
	out, err = w.GetSessionToken(w.root(t, home), &stsmodel.GetSessionTokenInput{DurationSeconds: model.Ptr(int64(7200))})
	if err != nil || out.Credentials.Expiration.Sub(start) != time.Hour {
		t.Errorf("root: %v", err)
	}
	for _, in := range []*stsmodel.GetSessionTokenInput{
		{DurationSeconds: model.Ptr(int64(899))}, {DurationSeconds: model.Ptr(int64(129_601))},
		{SerialNumber: model.Ptr("GAHT12345678")},
	} {
		if _, err := w.GetSessionToken(alice, in); code(err) != "ValidationError" {
			t.Errorf("%+v: %v", in, err)
		}
	}
	role := authn.WithCaller(t.Context(), authn.Caller{Kind: authn.KindRole, AccountID: home})
	if _, err := w.GetSessionToken(role, &stsmodel.GetSessionTokenInput{}); code(err) != "AccessDenied" {
		t.Errorf("role session: %v", err)
	}
}

// TestHandlers goes through the wire's decoder and encoder.
func TestHandlers(t *testing.T) {
	w := newWorld(t)
	handlers := w.Handlers()
	for name := range w.SelfAuthorized() {
		if _, ok := handlers[name]; !ok {
			t.Errorf("%s authorises itself and is not there", name)
		}
	}
	ctx := w.user(t, home, "alice", mayAssume)
	arn := w.role(t, "r", trust(`{"AWS":"`+home+`"}`, ""))
	h := handlers["AssumeRole"]
	if _, err := h.Decode(url.Values{"RoleArn": {arn}}); code(err) != "ValidationError" {
		t.Errorf("without RoleSessionName: %v", err)
	}
	in, err := h.Decode(url.Values{"RoleArn": {arn}, "RoleSessionName": {"session"}, "DurationSeconds": {"900"}})
	if err != nil {
		t.Fatal(err)
	}
	resources, err := w.Resources(ctx, "AssumeRole", authn.CallerFrom(ctx), in)
	if err != nil || len(resources) != 1 || resources[0] != arn {
		t.Errorf("resources %v, %v", resources, err)
	}
	out, err := h.Call(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	body, err := h.Encode(out, "", "req-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<AssumeRoleResult>", "<AccessKeyId>ASIA", "<SessionToken>", "assumed-role/r/session"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("answer lacks %s", want)
		}
	}
}
