package operator

import (
	"fmt"
	"io"
	"log/slog"
)

// String leaves the secret out. JSON has it: that is what the socket is asked for.
func (c Credentials) String() string { return "credentials " + c.AccessKeyID + " [redacted]" }

// Format writes String whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue returns String.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }
