package control

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/exchange"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	formType   = "application/x-www-form-urlencoded; charset=utf-8"
	// signedHeaders are all that a request has, in the order of their names.
	signedHeaders = "content-length;content-type;host;x-amz-date;x-amz-security-token"
	dateLayout    = "20060102"
	timeLayout    = "20060102T150405Z"
)

// sign makes the headers of a POST request, signed by Signature Version 4 (AWS General Reference, "Create a signed AWS
// API request"). All requests of a guest have the same form, a path without a query and these headers, so the general
// rules of canonical requests do not come up.
func sign(
	to endpoint, region string, by metadata.Credentials, now time.Time, body []byte,
) []exchange.Field {
	now = now.UTC()
	stamp, date := now.Format(timeLayout), now.Format(dateLayout)
	scope := strings.Join([]string{date, region, to.service, terminator}, "/")
	canonical := strings.Join([]string{
		"POST", to.path, "",
		"content-length:" + strconv.Itoa(len(body)), "content-type:" + formType, "host:" + to.host,
		"x-amz-date:" + stamp, "x-amz-security-token:" + by.Token, "",
		signedHeaders, hexDigest(body),
	}, "\n")
	text := strings.Join([]string{algorithm, stamp, scope, hexDigest([]byte(canonical))}, "\n")
	key := []byte("AWS4" + by.SecretAccessKey)
	for _, part := range []string{date, region, to.service, terminator, text} {
		key = authenticate(key, part)
	}
	return []exchange.Field{
		{Name: "Content-Type", Value: formType},
		{Name: "X-Amz-Date", Value: stamp},
		{Name: "X-Amz-Security-Token", Value: by.Token},
		{Name: "Authorization", Value: algorithm + " Credential=" + by.AccessKeyID + "/" + scope +
			", SignedHeaders=" + signedHeaders + ", Signature=" + hex.EncodeToString(key)},
	}
}

func authenticate(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
