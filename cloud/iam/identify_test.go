package iam_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

func (w *world) session(t testing.TB, in iam.Session) (iam.SessionCredentials, authn.Caller) {
	t.Helper()
	creds, c, err := w.MintSession(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return creds, c
}

func TestIdentifyRefuses(t *testing.T) {
	w := newWorld(t)
	rootID, _, err := w.EnsureRootKey(t.Context(), demoAccount)
	if err != nil {
		t.Fatal(err)
	}
	w.role(t, demoAccount, "r", trustEC2, "")
	creds, _ := w.session(t, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour})
	other, _ := w.session(t, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s2", Life: time.Hour})
	foreign := newWorld(t)
	foreign.role(t, demoAccount, "r", trustEC2, "")
	stranger, _ := foreign.session(t, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour})
	sealed, err := w.Seal("session-token", []byte(`{"k":"`+creds.AccessKeyID+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, id, token string
	}{
		{"nothing", "", ""},
		{"unknown key", "AKIAAAAAAAAAAAAAAAAA", ""},
		{"no key at all", "../../etc/passwd", ""},
		{"session key without token", creds.AccessKeyID, ""},
		{"long-term key with token", rootID, creds.Token},
		{"token of another session", creds.AccessKeyID, other.Token},
		{"token of another cloud", stranger.AccessKeyID, stranger.Token},
		{"token cut off", creds.AccessKeyID, creds.Token[:len(creds.Token)-5]},
		{"token altered", creds.AccessKeyID, flip(creds.Token)},
		{"token is garbage", creds.AccessKeyID, "garbage"},
		{"token too long", creds.AccessKeyID, strings.Repeat("x", 100_000)},
		{"token without encryption", creds.AccessKeyID,
			base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "....."},
		{"sealed by the root key", creds.AccessKeyID, sealed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, caller, err := w.Identify(t.Context(), tt.id, tt.token)
			wantCode(t, err, "InvalidClientTokenId")
			if caller.Kind != "" {
				t.Errorf("caller %+v beside an error", caller)
			}
		})
	}
	w.identify(t, creds.AccessKeyID, creds.Token)
}

// flip changes one character in the ciphertext.
func flip(token string) string {
	parts := strings.Split(token, ".")
	text := []byte(parts[3])
	if text[10] == 'A' {
		text[10] = 'B'
	} else {
		text[10] = 'A'
	}
	parts[3] = string(text)
	return strings.Join(parts, ".")
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	w.role(t, demoAccount, "r", trustEC2, "")
	creds, _ := w.session(t, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour})
	w.clock.Advance(59 * time.Minute)
	w.identify(t, creds.AccessKeyID, creds.Token)
	w.clock.Advance(time.Minute)
	_, _, err := w.Identify(t.Context(), creds.AccessKeyID, creds.Token)
	wantCode(t, err, "ExpiredToken")

	creds, caller := w.session(t, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour})
	w.identify(t, creds.AccessKeyID, creds.Token)
	must(ctx, t, w.DeleteRole, &iammodel.DeleteRoleInput{RoleName: model.Ptr("r")})
	_, _, err = w.Identify(t.Context(), creds.AccessKeyID, creds.Token)
	wantCode(t, err, "InvalidClientTokenId")
	w.role(t, demoAccount, "r", trustEC2, allowAll)
	_, _, err = w.Identify(t.Context(), creds.AccessKeyID, creds.Token)
	wantCode(t, err, "InvalidClientTokenId")
	wantCode(t, w.Authorize(t.Context(), caller, "s3:GetObject", nil, nil), "AccessDenied")
}

func TestUserSessions(t *testing.T) {
	w := newWorld(t)
	alice := w.user(t, "alice", allowAll)
	creds, _ := w.session(t, iam.Session{AccountID: demoAccount, UserName: "alice", Life: time.Hour})
	c := w.identify(t, creds.AccessKeyID, creds.Token)
	if c.ARN != alice.ARN || c.UserID != alice.UserID {
		t.Errorf("caller %+v", c)
	}
	rootCreds, _ := w.session(t, iam.Session{AccountID: demoAccount, Life: time.Hour})
	root := w.identify(t, rootCreds.AccessKeyID, rootCreds.Token)
	for _, who := range []authn.Caller{c, root} {
		wantCode(t, w.Authorize(t.Context(), who, "ec2:RunInstances", nil, nil), "")
		wantCode(t, w.Authorize(t.Context(), who, "sts:AssumeRole", nil, nil), "")
		wantCode(t, w.Authorize(t.Context(), who, "sts:GetSessionToken", nil, nil), "AccessDenied")
		wantCode(t, w.Authorize(t.Context(), who, "iam:CreateUser", nil, nil), "AccessDenied")
	}
	ctx := w.root(t, demoAccount)
	must(
		ctx,
		t,
		w.DeleteUserPolicy,
		&iammodel.DeleteUserPolicyInput{UserName: model.Ptr("alice"), PolicyName: model.Ptr("p")},
	)
	must(
		ctx,
		t,
		w.DeleteAccessKey,
		&iammodel.DeleteAccessKeyInput{UserName: model.Ptr("alice"), AccessKeyId: &alice.AccessKeyID},
	)
	must(ctx, t, w.DeleteUser, &iammodel.DeleteUserInput{UserName: model.Ptr("alice")})
	w.user(t, "alice", allowAll)
	_, _, err := w.Identify(t.Context(), creds.AccessKeyID, creds.Token)
	wantCode(t, err, "InvalidClientTokenId")
}

func TestMintSessionRefuses(t *testing.T) {
	w := newWorld(t)
	w.role(t, demoAccount, "r", trustEC2, "")
	_, _, err := w.MintSession(t.Context(), iam.Session{AccountID: demoAccount, RoleName: "no", Life: time.Hour})
	wantCode(t, err, "NoSuchEntity")
	_, _, err = w.MintSession(t.Context(), iam.Session{AccountID: demoAccount, UserName: "no", Life: time.Hour})
	wantCode(t, err, "NoSuchEntity")
	_, _, err = w.MintSession(
		t.Context(),
		iam.Session{AccountID: demoAccount, RoleName: "r", Policy: "{", Life: time.Hour},
	)
	wantCode(t, err, "MalformedPolicyDocument")
}

func TestCredentialsDoNotShow(t *testing.T) {
	w := newWorld(t)
	w.role(t, demoAccount, "r", trustEC2, "")
	creds, _ := w.session(t, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour})
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "creds", creds)
	shown := log.String() + fmt.Sprintf("%v %+v %#v %s %d %q", creds, creds, creds, creds, creds, creds)
	if strings.Contains(shown, creds.SecretAccessKey) || strings.Contains(shown, creds.Token) {
		t.Error("credentials show their secret")
	}
	if !strings.Contains(shown, creds.AccessKeyID) {
		t.Error("credentials do not show their id")
	}
}

// TestAnotherReplica: a second Service on the same store and root key knows the first one's sessions and hears of its
// writes.
func TestAnotherReplica(t *testing.T) {
	w := newWorld(t)
	second := startService(t, w.config)
	w.role(t, demoAccount, "r", trustEC2, allow("s3:*", "*"))
	creds, caller := w.session(t, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour})
	if _, _, err := second.Identify(t.Context(), creds.AccessKeyID, creds.Token); err != nil {
		t.Fatal(err)
	}
	wantCode(t, second.Authorize(t.Context(), caller, "s3:GetObject", nil, nil), "")
	must(w.root(t, demoAccount), t, w.DeleteRolePolicy,
		&iammodel.DeleteRolePolicyInput{RoleName: model.Ptr("r"), PolicyName: model.Ptr("p")})
	deadline := time.After(time.Minute) // of a machine that stands still; e2e/roles tells how long it takes
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for second.Authorize(t.Context(), caller, "s3:GetObject", nil, nil) == nil {
		select {
		case <-deadline:
			t.Fatal("the other replica still allows after a minute")
		case <-tick.C:
		}
	}
	if string(second.IAMCertificatePEM()) != string(w.IAMCertificatePEM()) {
		t.Error("the replicas have two IAM identities")
	}
}

func BenchmarkIdentify(b *testing.B) {
	w := newWorld(b)
	w.role(b, demoAccount, "r", trustEC2, "")
	rootID, _, err := w.EnsureRootKey(b.Context(), demoAccount)
	if err != nil {
		b.Fatal(err)
	}
	creds, _ := w.session(b, iam.Session{AccountID: demoAccount, RoleName: "r", Name: "s1", Life: time.Hour})
	for _, bb := range []struct{ name, id, token string }{
		{"root", rootID, ""}, {"session", creds.AccessKeyID, creds.Token},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := w.Identify(b.Context(), bb.id, bb.token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
