package sts_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// now is the time of the tests' world.
func now() time.Time { return time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) }

// idp is an OpenID Connect provider on this machine.
type idp struct {
	url, thumbprint string
	key             *ecdsa.PrivateKey
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{key: key}
	mux := http.NewServeMux()
	answer := func(path string, value func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(value()) })
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]string{"issuer": p.url, "jwks_uri": p.url + "/keys"}
	})
	answer("/keys", func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256"}}}
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	sum := sha1.Sum(server.Certificate().Raw)
	p.url, p.thumbprint = server.URL, hex.EncodeToString(sum[:])
	return p
}

// token signs claims, altered, with the provider's key.
func (p *idp) token(t *testing.T, key *ecdsa.PrivateKey, alter func(map[string]any)) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{
		"iss": p.url, "sub": "repo:acme", "aud": "app", "iat": now().Unix(), "exp": now().Add(time.Hour).Unix(),
	}
	if alter != nil {
		alter(claims)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	w := newWorld(t)
	p := newIDP(t)
	root := w.root(t, home)
	made, err := w.iam.CreateOpenIDConnectProvider(root, &iammodel.CreateOpenIDConnectProviderInput{
		Url: &p.url, ClientIDList: []string{"app"}, ThumbprintList: []string{p.thumbprint},
	})
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(p.url, "https://")
	arn := w.role(t, "web", statement(`{"Effect":"Allow","Principal":{"Federated":"`+*made.OpenIDConnectProviderArn+
		`"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringLike":{"`+host+`:sub":"repo:*"},"StringEquals":{"`+
		host+`:aud":"app"}}}`))
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) func(map[string]any) { return func(c map[string]any) { c[name] = value } }
	for _, tt := range []struct{ name, token, code string }{
		{"good", p.token(t, p.key, nil), ""},
		{"subject that the trust does not name", p.token(t, p.key, set("sub", "user:eve")), "AccessDenied"},
		{"another audience", p.token(t, p.key, set("aud", "other")), "InvalidIdentityToken"},
		{"expired", p.token(t, p.key, set("exp", now().Unix())), "ExpiredTokenException"},
		{"from tomorrow", p.token(t, p.key, set("iat", now().Add(time.Hour).Unix())), "InvalidIdentityToken"},
		{"no subject", p.token(t, p.key, set("sub", "")), "InvalidIdentityToken"},
		{"another issuer", p.token(t, p.key, set("iss", "https://idp.test")), "InvalidIdentityToken"},
		{"another key", p.token(t, other, nil), "InvalidIdentityToken"},
		{"no token", "aaaa", "InvalidIdentityToken"},
		{"tags that nothing lets set", p.token(t, p.key, set("https://aws.amazon.com/tags",
			map[string]any{"principal_tags": map[string][]string{"Team": {"x"}}})), "AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := w.AssumeRoleWithWebIdentity(t.Context(), &stsmodel.AssumeRoleWithWebIdentityInput{
				RoleArn: &arn, RoleSessionName: model.Ptr("ci"), WebIdentityToken: &tt.token,
			})
			if code(err) != tt.code {
				t.Fatalf("error %v, want %q", err, tt.code)
			}
			if err == nil && *out.SubjectFromWebIdentityToken != "repo:acme" {
				t.Errorf("subject %s", *out.SubjectFromWebIdentityToken)
			}
		})
	}
	// Without the server's thumbprint nothing of it is believed.
	if _, err := w.iam.UpdateOpenIDConnectProviderThumbprint(root, &iammodel.UpdateOpenIDConnectProviderThumbprintInput{
		OpenIDConnectProviderArn: made.OpenIDConnectProviderArn, ThumbprintList: []string{strings.Repeat("a", 40)},
	}); err != nil {
		t.Fatal(err)
	}
	_, err = w.AssumeRoleWithWebIdentity(t.Context(), &stsmodel.AssumeRoleWithWebIdentityInput{
		RoleArn: &arn, RoleSessionName: model.Ptr("ci"), WebIdentityToken: model.Ptr(p.token(t, p.key, nil)),
	})
	if code(err) != "IDPCommunicationError" {
		t.Errorf("wrong thumbprint: %v", err)
	}
}

func TestGetFederationToken(t *testing.T) {
	w := newWorld(t)
	ctx := w.user(t, home, "alice", statement(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`))
	token := func(policy *string) authn.Caller {
		t.Helper()
		out, err := w.GetFederationToken(ctx, &stsmodel.GetFederationTokenInput{Name: model.Ptr("bob"), Policy: policy})
		if err != nil {
			t.Fatal(err)
		}
		if want := "arn:aws:sts::" + home + ":federated-user/bob"; *out.FederatedUser.Arn != want {
			t.Errorf("federated user %s, want %s", *out.FederatedUser.Arn, want)
		}
		return authn.CallerFrom(w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken))
	}
	limited := token(model.Ptr(statement(`{"Effect":"Allow","Action":["s3:Get*","sqs:*"],"Resource":"*"}`)))
	for action, want := range map[string]string{
		"s3:GetObject": "", "s3:PutObject": "AccessDenied", "sqs:SendMessage": "AccessDenied", "iam:GetUser": "AccessDenied",
		"sts:AssumeRole": "AccessDenied",
	} {
		if got := code(w.iam.Authorize(t.Context(), limited, action, nil, nil)); got != want {
			t.Errorf("%s: %q, want %q", action, got, want)
		}
	}
	if got := code(w.iam.Authorize(t.Context(), token(nil), "s3:GetObject", nil, nil)); got != "AccessDenied" {
		t.Errorf("without a session policy: %q", got)
	}
	_, err := w.GetFederationToken(authn.WithCaller(t.Context(), limited),
		&stsmodel.GetFederationTokenInput{Name: model.Ptr("eve")})
	if code(err) != "AccessDenied" {
		t.Errorf("from session credentials: %v", err)
	}
}

// TestSessionTags has tags go from session to session: those that are transitive and no other.
func TestSessionTags(t *testing.T) {
	w := newWorld(t)
	trust := statement(`{"Effect":"Allow","Principal":{"AWS":"` + home + `"},` +
		`"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}`)
	ctx := w.user(t, home, "alice", statement(`{"Effect":"Allow","Action":"sts:*","Resource":"*"}`))
	first, second := w.role(t, "first", trust), w.role(t, "second", trust)
	for _, name := range []string{"first", "second"} {
		doc := statement(`{"Effect":"Allow","Action":"sts:*","Resource":"*"},{"Effect":"Allow","Action":"s3:*",` +
			`"Resource":"arn:aws:s3:::${aws:PrincipalTag/Team}/*"},{"Effect":"Allow","Action":"sqs:*","Resource":"*",` +
			`"Condition":{"StringEquals":{"aws:PrincipalTag/Stage":"dev"}}}`)
		if _, err := w.iam.PutRolePolicy(w.root(t, home), &iammodel.PutRolePolicyInput{
			RoleName: &name, PolicyName: model.Ptr("p"), PolicyDocument: &doc,
		}); err != nil {
			t.Fatal(err)
		}
	}
	tag := func(k, v string) stsmodel.Tag { return stsmodel.Tag{Key: &k, Value: &v} }
	assume := func(ctx context.Context, in *stsmodel.AssumeRoleInput) (context.Context, error) {
		in.RoleSessionName = model.Ptr("session")
		out, err := w.AssumeRole(ctx, in)
		if err != nil {
			return nil, err
		}
		return w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken), nil
	}
	one, err := assume(ctx, &stsmodel.AssumeRoleInput{
		RoleArn: &first, Tags: []stsmodel.Tag{tag("Team", "red"), tag("Stage", "dev")},
		TransitiveTagKeys: []string{"Team"}, SourceIdentity: model.Ptr("alice"),
	})
	if err != nil {
		t.Fatal(err)
	}
	two, err := assume(one, &stsmodel.AssumeRoleInput{RoleArn: &second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := assume(one, &stsmodel.AssumeRoleInput{RoleArn: &second, Tags: []stsmodel.Tag{tag("team", "blue")}}); code(
		err) != "ValidationError" {
		t.Errorf("another value for a transitive tag: %v", err)
	}
	if _, err := assume(one, &stsmodel.AssumeRoleInput{RoleArn: &second, SourceIdentity: model.Ptr("eve")}); code(
		err) != "AccessDenied" {
		t.Errorf("another source identity: %v", err)
	}
	if got := authn.CallerFrom(two).Session.SourceIdentity; got != "alice" {
		t.Errorf("source identity %q", got)
	}
	for _, tt := range []struct {
		ctx              context.Context
		action, resource string
		code             string
	}{
		{one, "s3:GetObject", "arn:aws:s3:::red/x", ""}, {two, "s3:GetObject", "arn:aws:s3:::red/x", ""},
		{two, "s3:GetObject", "arn:aws:s3:::blue/x", "AccessDenied"},
		{one, "sqs:SendMessage", "*", ""}, {two, "sqs:SendMessage", "*", "AccessDenied"},
	} {
		if got := code(w.iam.Authorize(t.Context(), authn.CallerFrom(tt.ctx), tt.action, []string{tt.resource}, nil)); got !=
			tt.code {
			t.Errorf("%s on %s: %q, want %q", tt.action, tt.resource, got, tt.code)
		}
	}
}
