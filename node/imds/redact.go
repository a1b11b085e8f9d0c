package imds

import (
	"fmt"
	"io"
	"log/slog"
)

// Format writes String whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue returns String.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText leaves the secrets out, of JSON and XML as well; what a guest is answered has a type of its own.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalBinary leaves the secrets out, of gob as well.
func (c Credentials) MarshalBinary() ([]byte, error) { return c.MarshalText() }
