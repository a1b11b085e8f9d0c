package iam

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// The kinds of entity as they stand in ARNs.
const (
	kindUser        = "user"
	kindGroup       = "group"
	kindRole        = "role"
	kindPolicy      = "policy"
	kindMFA         = "mfa"
	kindSAML        = "saml-provider"
	kindOIDC        = "oidc-provider"
	kindProfile     = "instance-profile"
	kindCertificate = "server-certificate"
)

func entityARN(accountID, kind, path, name string) string {
	if path == "" {
		path = "/"
	}
	return "arn:aws:iam::" + accountID + ":" + kind + path + name
}

func rootARN(accountID string) string { return "arn:aws:iam::" + accountID + ":root" }

// SessionARN is the ARN of a role session.
func SessionARN(accountID, roleName, sessionName string) string {
	return "arn:aws:sts::" + accountID + ":assumed-role/" + roleName + "/" + sessionName
}

// splitARN takes an IAM entity's ARN apart. The path has both its slashes.
func splitARN(arn string) (accountID, kind, path, name string, ok bool) {
	rest, found := strings.CutPrefix(arn, "arn:aws:iam::")
	accountID, rest, found2 := strings.Cut(rest, ":")
	if !found || !found2 || !isAccountID(accountID) {
		return "", "", "", "", false
	}
	slash := strings.IndexByte(rest, '/')
	last := strings.LastIndexByte(rest, '/')
	if slash <= 0 || last == len(rest)-1 {
		return "", "", "", "", false
	}
	return accountID, rest[:slash], rest[slash : last+1], rest[last+1:], true
}

// accountOf returns the account that an ARN belongs to; empty when the ARN names none (S3 buckets, the cloud's own
// images, AWS's managed policies).
func accountOf(arn string) string {
	for range 4 {
		var ok bool
		if _, arn, ok = strings.Cut(arn, ":"); !ok {
			return ""
		}
	}
	account, _, _ := strings.Cut(arn, ":")
	if !isAccountID(account) {
		return ""
	}
	return account
}

func isAccountID(s string) bool {
	return len(s) == 12 && !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

func invalid(field, format string, args ...any) error {
	e := model.Errorf("ValidationError", http.StatusBadRequest, format, args...)
	e.Message = "The specified value for " + field + " is invalid. " + e.Message
	return e
}

// checkName tests an entity's name. extra are the characters allowed beside letters, digits and +=,.@-
func checkName(field, name string, longest int, extra string) error {
	if name == "" || len(name) > longest {
		return invalid(field, "It must have length between 1 and %d", longest)
	}
	bad := func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune("+=,.@-"+extra, c)
	}
	if strings.ContainsFunc(name, bad) {
		return invalid(field, "It must contain only alphanumeric characters and/or the following: +=,.@%s-", extra)
	}
	return nil
}

// checkPath returns the path to store: "/" when none is given, else one that begins and ends with a slash.
func checkPath(field string, path *string) (string, error) {
	p := model.Val(path)
	if p == "" && path == nil || p == "/" {
		return "/", nil
	}
	const longest = 512
	bad := func(c rune) bool { return c < '!' || c > '~' }
	if len(p) < 2 || len(p) > longest || p[0] != '/' || p[len(p)-1] != '/' || strings.ContainsFunc(p, bad) {
		return "", invalid(field, "It must begin and end with / and contain only printable ASCII, at most %d characters",
			longest)
	}
	return p, nil
}

// newID returns an entity's unique id: a prefix of four letters and 17 of A to Z and 2 to 7.
func newID(prefix string) string { return prefix + randomText(17) }

// stableID is newID for what is the same in every cloud.
func stableID(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// sortedBy sorts in place by a key.
func sortedBy[T any](items []T, key func(T) string) []T {
	slices.SortFunc(items, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	return items
}

// newAccessKeyID returns an access key id of 20 characters: AKIA for long-term keys, ASIA for sessions. As in AWS's,
// the account's number is in the first bits of what follows, so that keyAccount and other tools can read it.
func newAccessKeyID(prefix, accountID string) string {
	number, _ := strconv.ParseUint(accountID, 10, 64) // an account's id is a number
	raw := make([]byte, 10)
	_, _ = rand.Read(raw)
	head := make([]byte, 8)
	copy(head[2:], raw[:6])
	binary.BigEndian.PutUint64(head, binary.BigEndian.Uint64(head)&^(accountMask<<accountShift)|number<<accountShift)
	copy(raw, head[2:])
	return prefix + base32.StdEncoding.EncodeToString(raw)
}

// The place of an account's number in the first 48 bits.
const (
	accountShift = 7
	accountMask  = 1<<40 - 1
)

// keyAccount returns the account whose number an access key id holds.
func keyAccount(accessKeyID string) (accountID string, ok bool) {
	if !strings.HasPrefix(accessKeyID, "AKIA") && !strings.HasPrefix(accessKeyID, "ASIA") {
		return "", false
	}
	raw, err := base32.StdEncoding.DecodeString(accessKeyID[4:])
	if err != nil || len(raw) != 10 {
		return "", false
	}
	number := binary.BigEndian.Uint64(append([]byte{0, 0}, raw[:6]...)) >> accountShift & accountMask
	accountID = fmt.Sprintf("%012d", number)
	return accountID, isAccountID(accountID)
}

func randomText(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	return base32.StdEncoding.EncodeToString(raw)[:n]
}

// newSecret returns a secret access key of 40 characters.
func newSecret() string {
	raw := make([]byte, 30)
	_, _ = rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// escapeDocument is how IAM's answers carry policy documents: percent-encoded by RFC 3986.
func escapeDocument(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}
