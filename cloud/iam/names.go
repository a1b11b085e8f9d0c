package iam

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// The kinds of entity as they stand in ARNs.
const (
	kindUser        = "user"
	kindRole        = "role"
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

// newAccessKeyID returns an access key id of 20 characters: AKIA for long-term keys, ASIA for sessions.
func newAccessKeyID(prefix string) string { return prefix + randomText(16) }

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
