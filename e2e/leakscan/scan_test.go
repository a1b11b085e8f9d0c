package leakscan

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

func keys(t testing.TB) map[string]crypto.PrivateKey {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.PrivateKey{"RSA": rsaKey, "P-256": small, "P-384": large, "Ed25519": edwards}
}

func scannerFor(t testing.TB, name string, key crypto.PrivateKey) *Scanner {
	t.Helper()
	k, err := FromKey(name, key)
	if err != nil {
		t.Fatal(err)
	}
	return NewScanner([]Key{k})
}

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.Read(data)
	return data
}

// spellings is how a key can be written.
func spellings(t *testing.T, key crypto.PrivateKey) map[string][]byte {
	t.Helper()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{"PKCS#8": pkcs8, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		der := x509.MarshalPKCS1PrivateKey(k)
		out["PKCS#1"], out["PKCS#1 PEM"] = der, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
		out["exponent"], out["prime"], out["other prime"] = k.D.Bytes(), k.Primes[0].Bytes(), k.Primes[1].Bytes()
		out["a part of the prime"] = k.Primes[0].Bytes()[50 : 50+window]
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		scalar, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		out["SEC 1"], out["SEC 1 PEM"] = der, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		out["scalar"], out["a part of the scalar"] = scalar, scalar[3:3+window]
		out["scalar, backwards"] = backwards(scalar)
	}
	for name, text := range maps.Clone(out) {
		if strings.Contains(name, "backwards") {
			continue
		}
		out["base64 of "+name] = []byte(base64.StdEncoding.EncodeToString(text))
		out["base64url of "+name] = []byte(base64.RawURLEncoding.EncodeToString(text))
		if strings.Contains(name, "PEM") {
			quoted, err := json.Marshal(string(text))
			if err != nil {
				t.Fatal(err)
			}
			out["JSON of "+name], out["form of "+name] = quoted, []byte(url.QueryEscape(string(text)))
			out["CRLF of "+name] = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
			continue
		}
		out["hex of "+name] = []byte(hex.EncodeToString(text))
		out["HEX of "+name] = []byte(strings.ToUpper(hex.EncodeToString(text)))
	}
	return out
}

func backwards(in []byte) []byte {
	out := bytes.Clone(in)
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// TestEverySpellingIsFound plants each spelling at places of every alignment, across the border of a chunk too.
func TestEverySpellingIsFound(t *testing.T) {
	for name, key := range keys(t) {
		s := scannerFor(t, name, key)
		for spelling, text := range spellings(t, key) {
			for _, at := range []int{0, 1, 777, chunk - len(text)/2} {
				data := random(at + len(text) + 5000)
				copy(data[at:], text)
				found, err := s.Reader("test", 1000, bytes.NewReader(data))
				if err != nil || len(found) == 0 {
					t.Errorf("%s: %s at %d: found %v, %v", name, spelling, at, found, err)
					continue
				}
				// What surrounds the text may go on like the key for a byte or two by chance.
				for _, f := range found {
					if f.Key != name || f.Offset < int64(998+at) || f.Offset+int64(f.Length) > int64(1002+at+len(text)) {
						t.Errorf("%s: %s at %d: %s", name, spelling, at, f)
					}
				}
			}
			// base64 of something that has the text in its middle.
			for shift := range 3 {
				wrapped := base64.StdEncoding.EncodeToString(append(append(random(shift), text...), random(5)...))
				if !strings.Contains(spelling, " of ") && !strings.Contains(spelling, "backwards") &&
					!s.matcher.holds([]byte(wrapped)) {
					t.Errorf("%s: base64 of %s after %d bytes is not found", name, spelling, shift)
				}
			}
		}
	}
}

// TestNothingElseIsFound shows that public keys and certificates, shorter pieces and random data are not findings.
func TestNothingElseIsFound(t *testing.T) {
	for name, key := range keys(t) {
		s := scannerFor(t, name, key)
		public, err := x509.MarshalPKIXPublicKey(key.(crypto.Signer).Public())
		if err != nil {
			t.Fatal(err)
		}
		source := mathrand.NewChaCha8([32]byte{1})
		noise := make([]byte, 16<<20)
		_, _ = source.Read(noise)
		short := []byte("nothing")
		if k, ok := key.(*rsa.PrivateKey); ok {
			short = k.Primes[0].Bytes()[20 : 20+window-1]
			short = append(append(random(3), short...), 'x', 'y', 'z')
			public = append(public, x509.MarshalPKCS1PublicKey(&k.PublicKey)...)
		}
		for what, data := range map[string][]byte{
			"public key": public, "its PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
			"hex of it": []byte(hex.EncodeToString(public)), "23 bytes": short, "noise": noise,
			"base64 noise": []byte(base64.StdEncoding.EncodeToString(noise[:1<<20])),
		} {
			if found, err := s.Reader(what, 0, bytes.NewReader(data)); err != nil || len(found) != 0 {
				t.Errorf("%s: in %s: %v, %v", name, what, found, err)
			}
		}
	}
}

func TestTree(t *testing.T) {
	all := keys(t)
	k, err := FromKey("secret", all["P-256"])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := spellings(t, all["P-256"])["PEM"]
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log/a", append(random(5000), text...))
	write("log/b", random(5000))
	write("empty", nil)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A guest's memory file is large and mostly a hole.
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sparse.WriteAt(text, 1<<33); err != nil {
		t.Fatal(err)
	}
	if err := sparse.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := NewScanner([]Key{k}).Tree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]bool{}
	for _, f := range found {
		places[f.Place] = true
		if f.Place == filepath.Join(dir, "sparse") && f.Offset < 1<<33 {
			t.Errorf("offset %d in the sparse file", f.Offset)
		}
	}
	if len(places) != 2 || !places[filepath.Join(dir, "log/a")] || !places[filepath.Join(dir, "sparse")] {
		t.Errorf("found in %v", places)
	}
	if _, err := NewScanner([]Key{k}).Tree(t.Context(), filepath.Join(dir, "missing")); err == nil {
		t.Error("a folder that is not there was looked at")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewScanner([]Key{k}).Tree(ctx, dir); err == nil {
		t.Error("a scan goes on after its end")
	}
}

// TestProcess finds a key in this very process and does not find one that is wiped.
func TestProcess(t *testing.T) {
	page, err := syscall.Mmap(-1, 0, 1<<16, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(page) }()
	secret := random(64)
	copy(page[100:], secret)
	s := NewScanner([]Key{FromSecret("planted", secret)})
	address := int64(uintptr(unsafe.Pointer(&page[100])))
	at := func() bool {
		found, err := s.Process(t.Context(), "test", os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Offset == address {
				return true
			}
		}
		return false
	}
	if !at() {
		t.Error("the key is not found in memory")
	}
	clear(page)
	if at() {
		t.Error("a wiped key is found in memory")
	}
	if _, err := s.Process(t.Context(), "nobody", 1<<30); err == nil {
		t.Error("the memory of a process that is not there was looked at")
	}
}

func TestNewKey(t *testing.T) {
	for _, text := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := NewKey("bad", []byte(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
	for name, key := range keys(t) {
		for spelling, text := range spellings(t, key) {
			if strings.HasSuffix(spelling, "PEM") && !strings.Contains(spelling, " of ") {
				if _, err := NewKey(name, append([]byte("text before\n"), text...)); err != nil {
					t.Errorf("%s %s: %v", name, spelling, err)
				}
			}
		}
	}
}

func BenchmarkScan(b *testing.B) {
	s := scannerFor(b, "key", keys(b)["RSA"])
	data := random(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := s.Reader("noise", 0, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
