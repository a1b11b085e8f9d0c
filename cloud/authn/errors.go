package authn

import (
	"fmt"
	"net/http"
)

// Code is the reason why a request is nobody's, in AWS's words.
type Code string

// The codes, with the status that IAM, STS and ELB answer. Package api turns them into EC2's.
const (
	CodeMissingToken      Code = "MissingAuthenticationToken" // not signed at all
	CodeIncomplete        Code = "IncompleteSignature"        // the signature's parts are missing or malformed
	CodeUnknownKey        Code = "InvalidClientTokenId"       // no such access key, or not with this session token
	CodeSignatureMismatch Code = "SignatureDoesNotMatch"      // signed by another secret, or altered on the way
	CodeRequestExpired    Code = "RequestExpired"             // dated too long ago or too far ahead
	CodeExpiredToken      Code = "ExpiredToken"               // the session's credentials have ended
	CodeMalformedQuery    Code = "MalformedQueryString"       // the query string cannot be read
	CodeBodyTooLarge      Code = "RequestEntityTooLarge"
)

// Error is a request that could not be authenticated. Message is meant for the client: it holds neither a secret nor
// the signature that would have been right.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Status is the HTTP status of the code.
func (e *Error) Status() int {
	switch e.Code {
	case CodeIncomplete, CodeMalformedQuery:
		return http.StatusBadRequest
	case CodeBodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeMissingToken, CodeUnknownKey, CodeSignatureMismatch, CodeRequestExpired, CodeExpiredToken:
		return http.StatusForbidden
	default:
		return http.StatusForbidden
	}
}

// Errorf makes an Error. Implementations of Lookup use it for CodeUnknownKey and CodeExpiredToken.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
