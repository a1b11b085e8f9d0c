package badinput

import (
	"context"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

// keysOf are an access key in a spec's hands.
type keysOf struct{ id, secret, token string }

// root are the first account's root user's.
func root() keysOf {
	GinkgoHelper()
	keys, err := cloud.Config.Credentials.Retrieve(context.Background())
	Expect(err).NotTo(HaveOccurred())
	return keysOf{keys.AccessKeyID, keys.SecretAccessKey, ""}
}

// read takes the keys out of an answer.
func read(a answer) keysOf {
	GinkgoHelper()
	one := func(element string) string {
		found := between(a.Body, "<"+element+">", "</"+element+">")
		if len(found) == 0 {
			return ""
		}
		return found[0]
	}
	return keysOf{one("AccessKeyId"), one("SecretAccessKey"), one("SessionToken")}
}

func (k keysOf) sign(c call) call { return c.as(k.id, k.secret, k.token) }

// session are temporary keys of the root user, which may ask who they are.
func session() keysOf {
	GinkgoHelper()
	k := read(expectDone(ask(stsService, "GetSessionToken")))
	expectDone(k.sign(whoAmI()))
	return k
}

// newKey makes an access key of the user, deleted after the spec unless the spec does.
func newKey() (k keysOf, remove func()) {
	GinkgoHelper()
	k = read(expectDone(ask(iamService, "CreateAccessKey", "UserName", aUser)))
	removed := false
	remove = func() {
		if !removed {
			expectDone(ask(iamService, "DeleteAccessKey", "UserName", aUser, "AccessKeyId", k.id))
		}
		removed = true
	}
	DeferCleanup(remove)
	return k, remove
}

func whoAmI() call  { return ask(stsService, "GetCallerIdentity") }
func newUser() call { return ask(iamService, "CreateUser", "UserName", "new") }

var _ = Describe("A signature", func() {
	DescribeTable(
		"that does not hold is refused",
		func(spoil func() call, status int, code, says string) { expectRefused(spoil(), status, code, says) },
		Entry("wrong secret", func() call { return newUser().as(root().id, "wrong", "") }, 403, "SignatureDoesNotMatch",
			"signature"),
		Entry("wrong secret at EC2", func() call { return run().as(root().id, "wrong", "") }, 401, "AuthFailure",
			"signature"),
		Entry("unknown key", func() call { return newUser().as("AKIA0000000000000000", "wrong", "") }, 403,
			"InvalidClientTokenId", "invalid"),
		Entry("unknown key at EC2", func() call { return run().as("AKIA0000000000000000", "wrong", "") }, 401, "AuthFailure",
			"credentials"),
		Entry("unknown key at ELB", func() call { return createBalancer("new").as("AKIA0000000000000000", "wrong", "") }, 403,
			"InvalidClientTokenId", "invalid"),
		Entry("none", func() call { return newUser().tampered(dropAuthorization) }, 403, "MissingAuthenticationToken",
			"Authentication Token"),
		Entry("of another body", func() call { return newUser().tampered(replaceBody) }, 403, "SignatureDoesNotMatch",
			"signature"),
		Entry("of another method", func() call {
			return newUser().tampered(func(r *http.Request) { r.Method = http.MethodGet })
		}, 403, "SignatureDoesNotMatch", "signature"),
		Entry("16 minutes old", func() call { return newUser().signedAt(-16 * time.Minute) }, 403, "SignatureDoesNotMatch",
			"Signature expired"),
		Entry("16 minutes old, at EC2", func() call { return run().signedAt(-16 * time.Minute) }, 400, "RequestExpired",
			"expired"),
		Entry("16 minutes ahead", func() call { return newUser().signedAt(16 * time.Minute) }, 403, "SignatureDoesNotMatch",
			"not yet current"),
	)

	DescribeTable(
		"in a malformed header is refused",
		func(header, code, says string) {
			c := newUser().tampered(func(r *http.Request) {
				r.Header.Set("Authorization", strings.ReplaceAll(header, "$TODAY", time.Now().UTC().Format("20060102")))
			})
			status := 400
			if code == "SignatureDoesNotMatch" {
				status = 403
			}
			expectRefused(c, status, code, says)
		},
		Entry("basic", "Basic dXNlcjpwYXNz", "IncompleteSignature", "algorithm"),
		Entry("older signature", "AWS AKIA:c2lnbmF0dXJl", "IncompleteSignature", "algorithm"),
		Entry("nothing behind the algorithm", "AWS4-HMAC-SHA256", "IncompleteSignature", "key=value"),
		Entry("without its parts", "AWS4-HMAC-SHA256 a=b", "IncompleteSignature", "'Credential'"),
		Entry("part twice", "AWS4-HMAC-SHA256 Credential=a, Credential=b", "IncompleteSignature", "twice"),
		Entry("scope cut short", "AWS4-HMAC-SHA256 Credential=AKIA/$TODAY/us-east-1, SignedHeaders=host, Signature="+
			strings.Repeat("0", 64), "IncompleteSignature", "5 slash-delimited"),
		Entry("scope of another day", "AWS4-HMAC-SHA256 Credential=AKIA/20010101/us-east-1/iam/aws4_request, "+
			"SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "SignatureDoesNotMatch", "20010101"),
		Entry("signature that is no hex", "AWS4-HMAC-SHA256 Credential=AKIA/$TODAY/us-east-1/iam/aws4_request, "+
			"SignedHeaders=host;x-amz-date, Signature=zz", "IncompleteSignature", "64"),
		Entry("host not signed", "AWS4-HMAC-SHA256 Credential=AKIA/$TODAY/us-east-1/iam/aws4_request, "+
			"SignedHeaders=x-amz-date, Signature="+strings.Repeat("0", 64), "SignatureDoesNotMatch", "Host"),
		Entry("longer than any", "AWS4-HMAC-SHA256 Credential="+strings.Repeat("a", 9<<10), "IncompleteSignature", "longer"),
	)

	It("of a date that is none is refused", func() {
		expectRefused(newUser().tampered(func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") }), 400,
			"IncompleteSignature", "Date")
		expectRefused(newUser().tampered(func(r *http.Request) { r.Header.Del("X-Amz-Date") }), 400, "IncompleteSignature",
			"X-Amz-Date")
	})

	It("of a deleted access key is refused", func() {
		key, remove := newKey()
		expectDone(key.sign(whoAmI()))
		remove()
		expectRefused(key.sign(newUser()), 403, "InvalidClientTokenId", "invalid")
		expectRefused(key.sign(run()), 401, "AuthFailure", "credentials")
	})

	It("of an access key that was made inactive is refused", func() {
		key, _ := newKey()
		expectDone(ask(iamService, "UpdateAccessKey", "UserName", aUser, "AccessKeyId", key.id, "Status", "Inactive"))
		expectRefused(key.sign(whoAmI()), 403, "InvalidClientTokenId", "invalid")
	})
})

func dropAuthorization(r *http.Request) { r.Header.Del("Authorization") }

func replaceBody(r *http.Request) {
	body := newUser().with("UserName", "evil").form.Encode()
	other, err := http.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	Expect(err).NotTo(HaveOccurred())
	r.Body, r.ContentLength, r.GetBody = other.Body, other.ContentLength, nil
}

var _ = Describe("A session", func() {
	It("whose time is over is refused", func() {
		over, _, err := replica(-time.Hour).MintSession(context.Background(),
			iam.Session{AccountID: "123456789012", Life: 15 * time.Minute})
		Expect(err).NotTo(HaveOccurred())
		old := keysOf{over.AccessKeyID, over.SecretAccessKey, over.Token}
		expectRefused(old.sign(whoAmI()), 403, "ExpiredToken", "expired")
		expectRefused(old.sign(createBalancer("new")), 403, "ExpiredToken", "expired")
		expectRefused(old.sign(run()), 400, "RequestExpired", "expired")

		By("taking one of the same kind whose time is not over")
		fresh, _, err := replica(-5*time.Minute).MintSession(context.Background(),
			iam.Session{AccountID: "123456789012", Life: 15 * time.Minute})
		Expect(err).NotTo(HaveOccurred())
		expectDone(keysOf{fresh.AccessKeyID, fresh.SecretAccessKey, fresh.Token}.sign(whoAmI()))
	})

	It("whose token was tampered with is refused", func() {
		k := session()
		for at := 0; at < len(k.token); at += len(k.token)/8 + 1 {
			bad := []byte(k.token)
			if bad[at] = 'A'; k.token[at] == 'A' {
				bad[at] = 'B'
			}
			expectRefused(whoAmI().as(k.id, k.secret, string(bad)), 403, "InvalidClientTokenId", "token")
		}
		expectRefused(run().as(k.id, k.secret, k.token[:len(k.token)/2]), 401, "AuthFailure", "token")
	})

	It("whose token is missing, another's or of no session at all is refused", func() {
		k, other := session(), session()
		expectRefused(whoAmI().as(k.id, k.secret, ""), 403, "InvalidClientTokenId", "token")
		expectRefused(whoAmI().as(k.id, k.secret, other.token), 403, "InvalidClientTokenId", "token")
		expectRefused(whoAmI().as(k.id, k.secret, strings.Repeat("x", 20<<10)), 403, "InvalidClientTokenId", "token")
		expectRefused(whoAmI().as(root().id, root().secret, k.token), 403, "InvalidClientTokenId", "token")
	})
})
