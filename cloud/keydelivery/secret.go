package keydelivery

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is key material. It shows itself as [redacted] under every format verb, in slog, JSON, XML and gob, so that a
// key can only leave through a deliberate conversion to []byte. fmt asks exported fields only: a struct that has one
// in a field of its own formats itself.
type Secret []byte

// String returns [redacted].
func (Secret) String() string { return redacted }

// Format writes [redacted] whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns [redacted].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns "[redacted]": records that must keep a key keep it sealed, as text.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns [redacted].
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary returns [redacted], to gob as well.
func (Secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }

// Wipe overwrites the bytes. Copies that the garbage collector or a library made are beyond its reach.
func (s Secret) Wipe() { clear(s) }
