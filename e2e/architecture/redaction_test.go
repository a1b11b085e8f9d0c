package architecture

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
	"github.com/cloudtwin/cloudtwin/node/imds"
)

// secretText is what must not show.
const secretText = "Xq7-not-to-be-seen-Zk3"

// shown are the ways in which a value gets into a log, an error or a file without anybody having asked for its key. The
// verbs p and w are left out: fmt asks no type about them, and go vet, a part of make lint, refuses them for anything
// but pointers and errors.
func shown(value any) map[string]string {
	out := map[string]string{}
	for _, verb := range strings.Split("v +v #v s q x X d b o O c U t e E f F g G T 08x -20s +q #x", " ") {
		out["%"+verb] = fmt.Sprintf("%"+verb, value)
	}
	out["in a slice"] = fmt.Sprintf("%v %+v %#v", []any{value}, []any{value}, []any{value})
	out["in a struct"] = fmt.Sprintf("%v %+v %#v", struct{ A any }{value}, struct{ A any }{value}, struct{ A any }{value})
	out["in an error"] = fmt.Errorf("about %v: %w", value, fmt.Errorf("%+v", value)).Error()
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("about", "value", value, slog.Group("group", "value", value))
		out[name] = b.String()
	}
	return out
}

// encoded are the encoders' outputs; an encoder that refuses the value shows nothing.
func encoded(value any) map[string]string {
	out := map[string]string{}
	text := func(data []byte, _ error) string { return string(data) }
	out["json"] = text(json.Marshal(value))
	out["json in a map"] = text(json.Marshal(map[string]any{"value": value}))
	out["xml"] = text(xml.Marshal(value))
	out["xml in an element"] = text(xml.Marshal(struct{ Value any }{value}))
	var b bytes.Buffer
	_ = gob.NewEncoder(&b).Encode(value)
	out["gob"] = b.String()
	b.Reset()
	slog.New(slog.NewJSONHandler(&b, nil)).Info("about", "list", []any{value})
	out["slog JSON, in a list"] = b.String()
	return out
}

// forms are how the secret may look.
func forms(secret []byte) []string {
	list := []string{
		string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		base64.StdEncoding.EncodeToString(secret), strings.Trim(fmt.Sprintf("%d", secret), "[]"),
		fmt.Sprintf("% x", secret), fmt.Sprintf("%#v", secret)[len("[]byte{"):],
	}
	// Half of it is too much as well.
	for _, whole := range list[:5] {
		list = append(list, whole[:len(whole)/2])
	}
	return list
}

// TestKeysRedactThemselves goes through every exported type that holds a key or another secret.
func TestKeysRedactThemselves(t *testing.T) {
	authority, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, lbKey, err := keydelivery.NewLBKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.SignLBCert("i-1", key.Public(), time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	iamKey, err := authority.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	identity := keydelivery.Identity{CertPEM: cert, Key: lbKey}
	var token nodelink.Token
	copy(token.Secret[:], secretText)
	text := []byte(secretText)
	medium := &keydelivery.Medium{LBCertPEM: cert, LBKey: lbKey}
	request, err := keydelivery.NewRequest("arn", identity, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	delivered := keydelivery.ServerCertificate{Key: text}
	session := iam.SessionCredentials{AccessKeyID: "ASIA", SecretAccessKey: secretText, Token: secretText}
	guest := metadata.Credentials{AccessKeyID: "ASIA", SecretAccessKey: secretText, Token: secretText}
	node := imds.Credentials{AccessKeyID: "ASIA", SecretAccessKey: secretText, Token: secretText}
	console := operator.Credentials{AccessKeyID: "AKIA", SecretAccessKey: secretText}
	tests := []struct {
		name    string
		values  []any
		secret  []byte
		encodes bool // the encoders are its wire, and asked for
	}{
		{"Secret", []any{keydelivery.Secret(text), pointer(keydelivery.Secret(text))}, text, false},
		{"Identity", []any{identity, &identity, []keydelivery.Identity{identity}}, body(lbKey), false},
		{"Medium", []any{medium, *medium}, body(lbKey), false},
		{"ServerCertificate", []any{delivered, &delivered}, text, false},
		{"Authority", []any{authority, struct{ A *keydelivery.Authority }{authority}}, body(iamKey), false},
		{"Authority's scalar", []any{authority}, scalar(t, iamKey), false},
		{"Request", []any{request, *request}, body(lbKey), false},
		{"iam.SessionCredentials", []any{session, &session}, text, false},
		{"imds.Credentials", []any{node, &node}, text, false},
		{"metadata.Credentials", []any{guest, &guest}, text, false},
		{"operator.Credentials", []any{console, &console}, text, true},
		{"nodelink.Token", []any{token, &token}, text, false},
		{"nodelink.RoleCredentialsResponse", []any{
			&nodelink.RoleCredentialsResponse{SecretAccessKey: secretText, Token: secretText},
		}, text, true},
		{"nodelink.EnrolRequest", []any{&nodelink.EnrolRequest{Token: secretText}}, text, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, value := range tt.values {
				ways := shown(value)
				if !tt.encodes {
					for name, out := range encoded(value) {
						ways[name] = out
					}
				}
				for way, out := range ways {
					for _, form := range forms(tt.secret) {
						if strings.Contains(out, form) {
							t.Errorf("%T by %s shows the secret", value, way)
							break
						}
					}
				}
			}
		})
	}
	// The search finds what is there.
	for way, out := range shown(string(text)) {
		if way == "%v" && !strings.Contains(out, secretText) {
			t.Errorf("control: %s of a plain text shows %q", way, out)
		}
	}
	if !strings.Contains(encoded(text)["json"], base64.StdEncoding.EncodeToString(text)) {
		t.Error("control: JSON of plain bytes does not show them")
	}
}

func pointer[T any](value T) *T { return &value }

// body is a PEM key's base64 without the lines around it, which any key has.
func body(key keydelivery.Secret) []byte {
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	return []byte(lines[1])
}

// scalar is the private number of a P-256 key, big-endian.
func scalar(t *testing.T, text keydelivery.Secret) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := parsed.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
