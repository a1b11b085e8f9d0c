// Package authn answers who signed a request: it verifies AWS Signature Version 4, in the Authorization header or in
// a presigned query string, and names the Caller.
//
// The check re-signs the request as the client says it signed it, with aws-sdk-go-v2's own signer and the caller's
// secret, and compares in constant time. Region and service are taken from the credential scope as sent, because
// stock clients sign odd ones; they say nothing about what the request asks for. Of the plain form in which nearly all
// requests come, a good signature is known by less work (plain.go), with the derived keys of the day at hand.
//
// Not in here: where secrets come from (iam, behind Lookup), what the caller may do (policy), and how an error looks
// on the wire (api). Read parse.go, then verify.go, then plain.go.
package authn
