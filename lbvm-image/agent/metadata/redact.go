package metadata

// MarshalText returns [redacted], to XML as well.
func (Credentials) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary returns [redacted], to gob as well.
func (Credentials) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }
