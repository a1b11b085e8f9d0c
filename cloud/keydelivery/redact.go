package keydelivery

import (
	"fmt"
	"log/slog"
)

// String names the identity by its serial number.
func (a *Authority) String() string { return "IAM identity " + a.Serial() + " " + redacted }

// Format writes String whatever the verb.
func (a *Authority) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, a.String()) }

// LogValue returns String.
func (a *Authority) LogValue() slog.Value { return slog.StringValue(a.String()) }
