package nodelink

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// ErrToken means that a text is no enrolment token.
var ErrToken = errors.New("not an enrolment token")

const (
	tokenPrefix   = "ctn1"
	tokenIDBytes  = 8
	tokenKeyBytes = 32
)

// Token lets one node enrol once. Its text form is ctn1.ID.SECRET.CAHASH, all in hexadecimal; the last part pins
// the cloud's CA, so that a node knows whom it tells the secret.
type Token struct {
	ID     string // 16 hexadecimal digits; not secret
	Secret [tokenKeyBytes]byte
	CAHash [sha256.Size]byte // SHA-256 of the cloud CA's certificate in DER
}

// ParseToken reads the text form; ErrToken, wrapped, says what is wrong and shows nothing of the text.
func ParseToken(text string) (Token, error) {
	var t Token
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return t, fmt.Errorf("%w: want %s.ID.SECRET.CAHASH", ErrToken, tokenPrefix)
	}
	id, err := hex.DecodeString(parts[1])
	if err != nil || len(id) != tokenIDBytes {
		return t, fmt.Errorf("%w: its id is not %d hexadecimal digits", ErrToken, 2*tokenIDBytes)
	}
	secret, err := hex.DecodeString(parts[2])
	if err != nil || len(secret) != len(t.Secret) {
		return t, fmt.Errorf("%w: its secret is not %d hexadecimal digits", ErrToken, 2*len(t.Secret))
	}
	hash, err := hex.DecodeString(parts[3])
	if err != nil || len(hash) != len(t.CAHash) {
		return t, fmt.Errorf("%w: its CA hash is not %d hexadecimal digits", ErrToken, 2*len(t.CAHash))
	}
	t.ID = parts[1]
	copy(t.Secret[:], secret)
	copy(t.CAHash[:], hash)
	return t, nil
}

// Text returns the form that ParseToken reads. It is a secret until the token was used.
func (t Token) Text() string {
	return strings.Join([]string{
		tokenPrefix, t.ID, hex.EncodeToString(t.Secret[:]), hex.EncodeToString(t.CAHash[:]),
	}, ".")
}

// Format keeps the secret out of every fmt verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "token %s [redacted]", t.ID) }

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue("token " + t.ID + " [redacted]") }

// MarshalJSON keeps the secret out of JSON.
func (t Token) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

var nodeIDPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$`)

// CheckNodeID says whether id may name a node: 1 to 64 letters, digits, dots and dashes, the first and last a
// letter or digit.
func CheckNodeID(id string) error {
	if !nodeIDPattern.MatchString(id) {
		return fmt.Errorf("node id %q: want 1 to 64 letters, digits, dots and dashes", id)
	}
	return nil
}
