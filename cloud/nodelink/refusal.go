package nodelink

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is why a NODECERT that the cloud's CA signed opens nothing. The node is told, since it can do something about
// it, and so is the operator.
type Reason string

// The reasons.
const (
	// ReasonRemoved means that the operator removed the node: it ends its guests and itself.
	ReasonRemoved Reason = "node-removed"
	// ReasonUnknown means that the cloud's records know no such node and nothing of its removal.
	ReasonUnknown Reason = "node-unknown"
	// ReasonReplaced means that the node of this name has another NODECERT now.
	ReasonReplaced Reason = "nodecert-replaced"
	// ReasonExpired means that the NODECERT's validity has ended.
	ReasonExpired Reason = "nodecert-expired"
)

// RefusedError is a NODECERT's refusal.
type RefusedError struct {
	Reason Reason
	Detail string // for people
	Serial string // of the NODECERT, hexadecimal
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("node certificate %s refused: %s: %s", e.Serial, e.Reason, e.Detail)
}

// GRPCStatus is how the refusal goes over the wire.
func (e *RefusedError) GRPCStatus() *status.Status {
	st := status.New(codes.PermissionDenied, "the node's certificate is not one that is in use")
	detailed, err := st.WithDetails(&Refusal{Reason: string(e.Reason), Detail: e.Detail, Serial: e.Serial})
	if err != nil {
		return st
	}
	return detailed
}

// RefusalOf returns the refusal that a call's error is, on either side of the wire, and whether it is one.
func RefusalOf(err error) (*RefusedError, bool) {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused, true
	}
	st, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	for _, detail := range st.Details() {
		if r, ok := detail.(*Refusal); ok {
			return &RefusedError{Reason: Reason(r.GetReason()), Detail: r.GetDetail(), Serial: r.GetSerial()}, true
		}
	}
	return nil, false
}
