package model

import "fmt"

// Error is an answer that a client is meant to see: AWS's code, the HTTP status and a message that names the
// parameter and the rule. Any other error that reaches the front door becomes a 500 InternalFailure whose cause
// is logged and not shown.
type Error struct {
	Code    string
	Status  int // HTTP status
	Message string
	// Cause is for the operator's journal and never leaves the cloud.
	Cause error
}

// Errorf makes an Error. A %w operand becomes its Cause and its text part of the message.
func Errorf(code string, status int, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: code, Status: status, Message: err.Error()}
	if u, ok := err.(interface{ Unwrap() error }); ok {
		e.Cause = u.Unwrap()
	}
	return e
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Unwrap returns the operator's cause.
func (e *Error) Unwrap() error { return e.Cause }
