package authn

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// keptKeys is how many derived keys a Verifier keeps. One serves an access key, a region and a service for a day.
const keptKeys = 1024

// scopeKey is what a signing key is derived from.
type scopeKey struct{ secret, day, region, service string }

// signingKeys keeps the derived keys of signatures that were good; the least recently used leaves first. Whoever signs
// badly, with scopes of any text, puts none in.
type signingKeys struct {
	mu    sync.Mutex
	order list.List // of *keptKey, most recently used first
	byKey map[scopeKey]*list.Element
}

type keptKey struct {
	scope scopeKey
	key   *signingKey
}

// get returns nil when the key of a scope is not kept.
func (k *signingKeys) get(scope scopeKey) *signingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.byKey[scope]
	if !ok {
		return nil
	}
	k.order.MoveToFront(e)
	return e.Value.(*keptKey).key
}

func (k *signingKeys) put(scope scopeKey, key *signingKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.byKey[scope]; ok {
		return
	}
	if k.byKey == nil {
		k.byKey = make(map[scopeKey]*list.Element)
	}
	k.byKey[scope] = k.order.PushFront(&keptKey{scope, key})
	if k.order.Len() > keptKeys {
		last := k.order.Back()
		k.order.Remove(last)
		delete(k.byKey, last.Value.(*keptKey).scope)
	}
}

func (k *signingKeys) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.order.Len()
}

// signingKey signs with the derived key of a scope. What was made ready for it once is used again: an HMAC hashes its
// key twice before it hashes anything else.
type signingKey struct {
	key  []byte
	macs sync.Pool // of hash.Hash
}

// sign appends the text's HMAC to into.
func (k *signingKey) sign(into, text []byte) []byte {
	h, ok := k.macs.Get().(hash.Hash)
	if ok {
		h.Reset()
	} else {
		h = hmac.New(sha256.New, k.key)
	}
	h.Write(text)
	into = h.Sum(into)
	k.macs.Put(h)
	return into
}

// derive makes the key of a scope: the secret never signs a request itself.
func (s scopeKey) derive() *signingKey {
	step := []byte("AWS4" + s.secret)
	for _, text := range [...]string{s.day, s.region, s.service, terminator} {
		step = mac(step, []byte(text))
	}
	return &signingKey{key: step}
}

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// isPlain says whether r is what SDKs and command lines send to these APIs in nearly all cases: signed in the header,
// at the root, without a query string. Nothing of it needs the encoding on which clients differ.
func (s *signature) isPlain(r *http.Request) bool {
	return !s.presigned && r.URL.RawQuery == "" && r.URL.Path == "/" && r.URL.RawPath == "" &&
		slices.Contains(s.signedHeaders, "x-amz-date")
}

// plainGood says whether a plain request's signature is that of the secret's holder. It says no more than the SDK's
// signer would, some times faster: false leaves the question open.
func (v *Verifier) plainGood(s *signature, r *http.Request, payload, secret string) bool {
	buffer := buffers.Get().(*[]byte)
	text, ok := s.canonical((*buffer)[:0], r, payload)
	defer func() {
		clear(text[:cap(text)]) // it held the session's token
		*buffer = text[:0]
		buffers.Put(buffer)
	}()
	if !ok {
		return false
	}
	scope := scopeKey{secret, s.day, s.region, s.service}
	kept := v.keys.get(scope)
	key := kept
	if key == nil {
		key = scope.derive()
	}
	sum := sha256.Sum256(text)
	var room [256]byte
	var signed [sha256.Size]byte
	var want [2 * sha256.Size]byte
	hex.Encode(want[:], key.sign(signed[:0], s.toSign(room[:0], &sum)))
	if subtle.ConstantTimeCompare(want[:], []byte(s.value)) != 1 {
		return false
	}
	if kept == nil { // the client's own strings hold its whole request
		v.keys.put(scopeKey{secret, s.day, strings.Clone(s.region), strings.Clone(s.service)}, key)
	}
	return true
}

// buffers hold canonical requests while they are hashed.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// canonical writes a plain request in the form that is signed (the IAM user guide, "Create a signed AWS API request");
// ok is false when a header is of a form on which clients differ.
func (s *signature) canonical(text []byte, r *http.Request, payload string) (_ []byte, ok bool) {
	text = append(append(text, r.Method...), "\n/\n\n"...)
	for _, name := range s.signedHeaders {
		text = append(append(text, name...), ':')
		switch name {
		case "host":
			if r.Host == "" || strings.HasSuffix(r.Host, ":80") || strings.HasSuffix(r.Host, ":443") {
				return text, false
			}
			text = append(text, r.Host...)
		case "content-length":
			if r.ContentLength <= 0 {
				return text, false
			}
			text = strconv.AppendInt(text, r.ContentLength, 10)
		default:
			values := r.Header[http.CanonicalHeaderKey(name)]
			if len(values) != 1 || values[0] == "" || !trimmed(values[0]) {
				return text, false
			}
			text = append(text, values[0]...)
		}
		text = append(text, '\n')
	}
	text = append(text, '\n')
	for i, name := range s.signedHeaders {
		if i > 0 {
			text = append(text, ';')
		}
		text = append(text, name...)
	}
	return append(append(text, '\n'), payload...), true
}

// trimmed says whether value is signed as it is: without space at its ends, or twice in a row.
func trimmed(value string) bool {
	return !strings.Contains(value, "  ") && strings.TrimSpace(value) == value
}

// toSign writes what the key signs.
func (s *signature) toSign(text []byte, canonical *[sha256.Size]byte) []byte {
	text = append(append(text, algorithm...), '\n')
	text = append(s.date.UTC().AppendFormat(text, timeFormat), '\n')
	for _, part := range [...]string{s.day, s.region, s.service} {
		text = append(append(text, part...), '/')
	}
	text = append(append(text, terminator...), '\n')
	return hex.AppendEncode(text, canonical[:])
}
