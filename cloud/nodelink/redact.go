package nodelink

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// MarshalText returns [redacted], to XML as well. Text has the token itself.
func (t Token) MarshalText() ([]byte, error) { return []byte("token " + t.ID + " " + redacted), nil }

// MarshalBinary returns [redacted], to gob as well.
func (t Token) MarshalBinary() ([]byte, error) { return t.MarshalText() }

// Format leaves the secrets out whatever the verb: the generated String has them.
func (x *RoleCredentialsResponse) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "credentials "+x.GetAccessKeyId()+" "+redacted)
}

// LogValue leaves the secrets out.
func (x *RoleCredentialsResponse) LogValue() slog.Value {
	return slog.StringValue("credentials " + x.GetAccessKeyId() + " " + redacted)
}

// Format leaves the token out whatever the verb.
func (x *EnrolRequest) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "enrolment of "+x.GetNodeId()+" "+redacted)
}

// LogValue leaves the token out.
func (x *EnrolRequest) LogValue() slog.Value {
	return slog.StringValue("enrolment of " + x.GetNodeId() + " " + redacted)
}
