package imds

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// A token is its end in Unix seconds, random bytes, and a MAC over both and the instance it was made for, all in
// base64. So the service remembers none, however many a guest asks for.
const (
	tokenKeySize  = 32
	tokenTimeSize = 8
	tokenSaltSize = 8
	tokenMACSize  = 24
	tokenSize     = tokenTimeSize + tokenSaltSize + tokenMACSize
)

// minter makes and checks tokens.
type minter struct {
	key []byte
}

// mint makes a token for an instance.
func (m minter) mint(instanceID string, ends time.Time) string {
	b := make([]byte, tokenTimeSize+tokenSaltSize, tokenSize)
	binary.BigEndian.PutUint64(b, uint64(ends.Unix()))
	_, _ = rand.Read(b[tokenTimeSize:]) // never fails
	b = append(b, m.mac(b, instanceID)...)
	return base64.URLEncoding.EncodeToString(b)
}

// check says whether a token was made for this instance and for how long it still holds.
func (m minter) check(token, instanceID string, now time.Time) (left time.Duration, ok bool) {
	if len(token) != base64.URLEncoding.EncodedLen(tokenSize) {
		return 0, false
	}
	b, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != tokenSize {
		return 0, false
	}
	head := b[:tokenTimeSize+tokenSaltSize]
	if !hmac.Equal(b[len(head):], m.mac(head, instanceID)) {
		return 0, false
	}
	ends := time.Unix(int64(binary.BigEndian.Uint64(head)), 0)
	return ends.Sub(now), now.Before(ends)
}

func (m minter) mac(head []byte, instanceID string) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write(head) // of fixed length, so nothing can move between it and the id
	h.Write([]byte(instanceID))
	return h.Sum(nil)[:tokenMACSize]
}
