package iam_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

const (
	tokenModule = "/usr/lib/softhsm/libsofthsm2.so"
	tokenPIN    = "471147"
)

// hsm is a token of SoftHSM with folder and PIN file of its own.
type hsm struct{ dir, pin string }

func newHSM(t *testing.T, labels ...string) *hsm {
	t.Helper()
	if _, err := os.Stat(tokenModule); err != nil {
		t.Fatalf("%v: this test needs the package softhsm2; run: .ci/deps softhsm2", err)
	}
	h := &hsm{dir: t.TempDir()}
	h.pin = filepath.Join(h.dir, "pin")
	conf := filepath.Join(h.dir, "softhsm2.conf")
	write(t, conf, []byte("directories.tokendir = "+h.dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"))
	write(t, h.pin, []byte(tokenPIN+"\n"))
	t.Setenv("SOFTHSM2_CONF", conf)
	for _, label := range labels {
		out, err := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", label,
			"--so-pin", "12345678", "--pin", tokenPIN).CombinedOutput()
		if err != nil {
			t.Fatalf("make a token: %v\n%s", err, out)
		}
	}
	return h
}

func (h *hsm) uri(token, object string) string {
	return "pkcs11:token=" + url.PathEscape(token) + ";object=" + url.PathEscape(object) + "?module-path=" + tokenModule +
		"&pin-source=file:" + h.pin
}

// session does something with the token called cloud past the product.
func (h *hsm) session(t *testing.T, do func(p *pkcs11.Ctx, s pkcs11.SessionHandle) error) {
	t.Helper()
	p := pkcs11.New(tokenModule)
	defer p.Destroy()
	err := p.Initialize()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Finalize() }()
	slots, err := p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(slots, func(slot uint) bool { // their order is chance
		info, err := p.GetTokenInfo(slot)
		return err == nil && strings.TrimSpace(info.Label) == "cloud"
	})
	if i < 0 {
		t.Fatal("there is no token called cloud")
	}
	s, err := p.OpenSession(slots[i], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Login(s, pkcs11.CKU_USER, tokenPIN), do(p, s)); err != nil {
		t.Fatal(err)
	}
}

// generate makes an AES key of a size, in bytes.
func generate(p *pkcs11.Ctx, s pkcs11.SessionHandle, label string, size int, extractable bool) error {
	_, err := p.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, extractable),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
	})
	return err
}

// TestTokenRootKey: with the root key on a token a cloud works as with the file, and after a restart; without the
// token or with another key nothing opens.
func TestTokenRootKey(t *testing.T) {
	h := newHSM(t, "cloud")
	uri := h.uri("cloud", "root")
	if err := iam.CreateTokenKey(uri); err != nil {
		t.Fatal(err)
	}
	err := iam.CreateTokenKey(uri)
	if !errors.Is(err, iam.ErrTokenKey) || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a second key of the name: %v", err)
	}
	warned := captureLog(t)
	s := newScene(t, func(c *iam.Config) { c.RootKeyURI = uri })
	if _, err := os.Stat(s.config.RootKeyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a root key file beside the token: %v", err)
	}
	s.Close()
	s.Service = startService(t, s.config)
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
		t.Errorf("delivery after a restart: %v", err)
	}
	if warned.Len() > 0 {
		t.Errorf("a key that cannot leave its token is warned of: %s", warned)
	}
	s.Close()

	file := s.config
	file.RootKeyURI = ""
	if _, err := iam.New(t.Context(), file); !errors.Is(err, iam.ErrRootKeyElsewhere) ||
		!strings.Contains(err.Error(), "--root-key pkcs11:token=cloud;object=root") {
		t.Errorf("start with the file: %v", err)
	}
	if _, err := iam.OperatorKeys(t.Context(), s.store, file.RootKeyFile); err == nil {
		t.Error("the file that is not there opens the keys")
	}
	if keys, err := iam.OperatorKeys(t.Context(), s.store, uri); err != nil || len(keys) != 2 {
		t.Errorf("the token opens %d keys for the operator, %v; want IAMPK and one USERPK", len(keys), err)
	}
	// The same name, another key.
	h.session(t, func(p *pkcs11.Ctx, session pkcs11.SessionHandle) error {
		err := p.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "root")})
		objects, _, ferr := p.FindObjects(session, 1)
		if err = errors.Join(err, ferr, p.FindObjectsFinal(session)); err != nil || len(objects) != 1 {
			return errors.Join(err, errors.New("no key to replace"))
		}
		return errors.Join(p.DestroyObject(session, objects[0]), generate(p, session, "root", 32, false))
	})
	if _, err := iam.New(t.Context(), s.config); !errors.Is(err, iam.ErrRootKeyElsewhere) ||
		!strings.Contains(err.Error(), "is not the key that wrapped it") {
		t.Errorf("start with another key: %v", err)
	}
}

// TestTokenFaults: each is an error that says what is wrong and what to do, and a service starts when it is put right.
func TestTokenFaults(t *testing.T) {
	h := newHSM(t, "cloud", "spare")
	good := h.uri("cloud", "root")
	if err := iam.CreateTokenKey(good); err != nil {
		t.Fatal(err)
	}
	h.session(t, func(p *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		return errors.Join(generate(p, s, "short", 16, false), generate(p, s, "twice", 32, false),
			generate(p, s, "twice", 32, false))
	})
	tests := []struct {
		name, uri string
		spoil     func()
		want      error
		says      string
	}{
		{"no module", strings.Replace(good, "libsofthsm2", "none", 1), nil, iam.ErrTokenModule,
			"install the token's library"},
		{"a module that is none", strings.Replace(good, tokenModule, "/bin/true", 1), nil, iam.ErrTokenModule,
			"no PKCS#11 library"},
		{"no token", h.uri("other", "root"), nil, iam.ErrToken, `"cloud`},
		{"no key", h.uri("cloud", "other"), nil, iam.ErrTokenKey, "root-key create"},
		{"key on another token", h.uri("spare", "root"), nil, iam.ErrTokenKey, "root-key create"},
		{"key too short", h.uri("cloud", "short"), nil, iam.ErrTokenKey, "no AES key of 32 bytes"},
		{"several keys", h.uri("cloud", "twice"), nil, iam.ErrTokenKey, "name the id"},
		{"wrong PIN", good, func() { write(t, h.pin, []byte("000000")) }, iam.ErrTokenPIN, "put the user's PIN into"},
		{"empty PIN", good, func() { write(t, h.pin, []byte("\n")) }, iam.ErrTokenPIN, "1 to 256 bytes"},
		{"no PIN", good, func() { _ = os.Remove(h.pin) }, iam.ErrTokenPIN, "pin-source"},
		{"PIN open to others", good, func() { _ = os.Chmod(h.pin, 0o644) }, iam.ErrTokenPIN, "chmod 600"},
	}
	w := newWorld(t, func(c *iam.Config) { c.RootKeyURI = good })
	w.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.spoil != nil {
				tt.spoil()
			}
			cfg := w.config
			cfg.RootKeyURI = tt.uri
			_, err := iam.New(t.Context(), cfg)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("New: %v, want %v that says %q", err, tt.want, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), tokenPIN) {
				t.Errorf("the error tells the PIN: %v", err)
			}
			_ = os.Remove(h.pin)
			write(t, h.pin, []byte(tokenPIN))
			s, err := iam.New(t.Context(), w.config)
			if err != nil {
				t.Fatalf("control: %v", err)
			}
			s.Close()
		})
	}
}

func TestTokenKeyThatMayLeave(t *testing.T) {
	h := newHSM(t, "cloud")
	h.session(t, func(p *pkcs11.Ctx, s pkcs11.SessionHandle) error { return generate(p, s, "loose", 32, true) })
	warned := captureLog(t)
	newWorld(t, func(c *iam.Config) { c.RootKeyURI = h.uri("cloud", "loose") })
	if !strings.Contains(warned.String(), "extractable") {
		t.Errorf("no warning of an extractable key: %q", warned)
	}
}

// TestMoveRootKey moves the key to a token and back; what was sealed opens all along.
func TestMoveRootKey(t *testing.T) {
	h := newHSM(t, "cloud")
	s := newScene(t)
	s.Close()
	file, token := s.config, s.config
	token.RootKeyURI = h.uri("cloud", "root")
	check := func(what string, good, bad iam.Config) {
		t.Helper()
		if _, err := iam.New(t.Context(), bad); err == nil {
			t.Errorf("%s: the other root key still opens the store", what)
		}
		s.Service = startService(t, good)
		defer s.Close()
		r := s.request(t, s.arn, s.identity, s.clock.Now())
		if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
			t.Errorf("%s: delivery: %v", what, err)
		}
	}
	if _, err := iam.New(t.Context(), token); !errors.Is(err, iam.ErrRootKeyElsewhere) ||
		!strings.Contains(err.Error(), "root-key move") {
		t.Errorf("start with a token that has nothing: %v", err)
	}
	if err := iam.MoveRootKey(t.Context(), token, false); !errors.Is(err, iam.ErrTokenKey) {
		t.Errorf("move to a key that is not there: %v", err)
	}
	check("after a move that failed", file, token)
	if err := iam.CreateTokenKey(token.RootKeyURI); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(file.RootKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := iam.MoveRootKey(t.Context(), token, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file.RootKeyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	check("on the token", token, file)
	if err := iam.MoveRootKey(t.Context(), token, false); !errors.Is(err, iam.ErrRootKeyElsewhere) {
		t.Errorf("move twice: %v", err)
	}
	if err := iam.MoveRootKey(t.Context(), token, true); err != nil {
		t.Fatal(err)
	}
	back, err := os.ReadFile(file.RootKeyFile)
	if err != nil || !bytes.Equal(back, key) {
		t.Errorf("another key came back: %v", err)
	}
	check("back in the file", file, token)
}

func TestParseTokenURI(t *testing.T) {
	got, err := iam.ParseTokenURI("pkcs11:token=My%20HSM;id=%01%ff;type=secret-key?pin-source=file:///p&module-path=/m.so")
	if err != nil || got.Token != "My HSM" || got.ID != "\x01\xff" || got.PINSource != "/p" || got.ModulePath != "/m.so" {
		t.Errorf("read %+v, %v", got, err)
	}
	for uri, says := range map[string]string{
		"":                           "begin with pkcs11:",
		"file:/x":                    "begin with pkcs11:",
		"pkcs11:object=o":            "token or serial is required",
		"pkcs11:token=t":             "object or id is required",
		"pkcs11:token=t;object=o":    "module-path is required",
		"pkcs11:token":               "no value",
		"pkcs11:token=":              "no value that can be read",
		"pkcs11:token=%zz":           "no value that can be read",
		"pkcs11:token=a;token=b":     "token is there twice",
		"pkcs11:slot-id=1":           "not known",
		"pkcs11:type=private":        "must be secret-key",
		"pkcs11:token=t?module-path": "no value",
		"pkcs11:token=t;object=o?module-path=m.so&pin-source=/p": "module-path is required, and absolute",
		"pkcs11:token=t;object=o?module-path=/m&pin-value=1234":  "pin-value is refused",
	} {
		_, err := iam.ParseTokenURI(uri)
		if !errors.Is(err, iam.ErrTokenURI) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "1234") {
			t.Errorf("%q: %v, want one that says %q", uri, err, says)
		}
	}
}

func FuzzParseTokenURI(f *testing.F) {
	f.Add("pkcs11:token=a;object=b?module-path=/m&pin-source=file:/p")
	f.Add("pkcs11:;;=?&=%")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := iam.ParseTokenURI(text)
		if err == nil && (u.Token+u.Serial == "" || u.Object+u.ID == "" || u.ModulePath[0] != '/' || u.PINSource[0] != '/') {
			t.Errorf("%q was read as %+v", text, u)
		}
	})
}

// captureLog keeps what is logged while the test runs.
func captureLog(t *testing.T) *bytes.Buffer {
	t.Helper()
	out, before := &bytes.Buffer{}, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(out, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return out
}
