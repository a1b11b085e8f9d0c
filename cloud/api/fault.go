package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// anyNamespace is that of errors which no service made.
const anyNamespace = "http://webservices.amazon.com/AWSFault/2005-15-09"

// statusClosed is recorded when the client went away before the answer.
const statusClosed = 499

// fault is an error as it is answered and recorded.
type fault struct {
	status  int
	code    string
	message string
	// cause is for the operator and never answered.
	cause error
}

// errOverdue means that a request took the whole RequestTimeout.
var errOverdue = errors.New("the request's time is up")

// overdue makes err errOverdue too if the end of the request's own time is what it tells of. A time that ran out
// within a part of the request is our fault, for whoever set it has to say what that means.
func overdue(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && errors.Is(context.Cause(ctx), errOverdue) {
		return fmt.Errorf("%w: %w", errOverdue, err)
	}
	return err
}

// newFault translates err for clients of a service; t is nil when no service was found.
func newFault(err error, t *target) fault {
	ec2 := t != nil && t.binding.Service.Protocol == model.ProtocolEC2
	var signature *authn.Error
	var known *model.Error
	switch {
	case errors.Is(err, store.ErrFull):
		return fault{
			status: http.StatusServiceUnavailable, code: "ServiceUnavailable", cause: err,
			message: "The cloud's disk is full. Nothing was changed.",
		}
	case errors.Is(err, store.ErrUnreachable):
		return fault{
			status: http.StatusServiceUnavailable, code: "ServiceUnavailable", cause: err,
			message: "The cloud's records cannot be reached for the moment. Whether anything was changed is not known.",
		}
	case errors.As(err, &signature):
		return signatureFault(signature, ec2)
	case errors.As(err, &known) && known.Status < http.StatusInternalServerError:
		if ec2 {
			if f, ok := ec2Signature(authn.Code(known.Code), known.Message); ok {
				return f
			}
		}
		return fault{
			status: cmp.Or(known.Status, http.StatusBadRequest), code: known.Code, message: known.Message,
			cause: known.Cause,
		}
	case errors.Is(err, errOverdue):
		return fault{
			status: http.StatusServiceUnavailable, code: "ServiceUnavailable", cause: err,
			message: "The request took too long. Whether anything was changed is not known.",
		}
	case known != nil:
		return fault{status: known.Status, code: known.Code, message: known.Message, cause: err}
	case errors.Is(err, context.Canceled):
		return fault{status: statusClosed, code: "RequestAborted", message: "The client closed the request"}
	}
	code := "InternalFailure"
	if ec2 {
		code = "InternalError"
	}
	return fault{
		status: http.StatusInternalServerError, code: code, cause: err,
		message: "An internal error has occurred. The request id leads to its cause in the cloud's log.",
	}
}

// signatureFault words an authentication error as the service does.
func signatureFault(e *authn.Error, ec2 bool) fault {
	f := fault{status: e.Status(), code: string(e.Code), message: e.Message}
	if ec2 {
		if other, ok := ec2Signature(e.Code, e.Message); ok {
			return other
		}
		return f
	}
	if e.Code == authn.CodeRequestExpired {
		f.code = string(authn.CodeSignatureMismatch)
	}
	return f
}

// ec2Signature has the codes of which EC2 has its own.
func ec2Signature(code authn.Code, message string) (fault, bool) {
	switch code {
	case authn.CodeUnknownKey, authn.CodeSignatureMismatch:
		return fault{
			status: http.StatusUnauthorized, code: "AuthFailure",
			message: "AWS was not able to validate the provided access credentials: " + message,
		}, true
	case authn.CodeRequestExpired, authn.CodeExpiredToken:
		return fault{
			status: http.StatusBadRequest, code: "RequestExpired", message: "Request has expired: " + message,
		}, true
	case authn.CodeMissingToken, authn.CodeIncomplete, authn.CodeMalformedQuery, authn.CodeBodyTooLarge:
		return fault{}, false
	default:
		return fault{}, false
	}
}

// body writes the error in the form of the service's protocol.
func (f fault) body(t *target, requestID string) []byte {
	var b bytes.Buffer
	write := func(parts ...string) {
		for i, p := range parts {
			if i%2 == 0 {
				b.WriteString(p) // markup
				continue
			}
			_ = xml.EscapeText(&b, []byte(p)) // a bytes.Buffer does not fail
		}
	}
	if t != nil && t.binding.Service.Protocol == model.ProtocolEC2 {
		write(xml.Header+"<Response><Errors><Error><Code>", f.code, "</Code><Message>", f.message,
			"</Message></Error></Errors><RequestID>", requestID, "</RequestID></Response>")
		return b.Bytes()
	}
	namespace, kind := anyNamespace, "Sender"
	if t != nil {
		namespace = t.binding.Service.Namespace
	}
	if f.status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	write(`<ErrorResponse xmlns="`, namespace, `"><Error><Type>`, kind, "</Type><Code>", f.code, "</Code><Message>",
		f.message, "</Message></Error><RequestId>", requestID, "</RequestId></ErrorResponse>")
	return b.Bytes()
}
