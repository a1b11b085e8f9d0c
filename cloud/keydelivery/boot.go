package keydelivery

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"
)

// EntropySize is how many bytes of fresh randomness a medium carries.
const EntropySize = 64

// BootFormat is the version of BootFile that this package writes and reads.
const BootFormat = 1

// Boot is BootFile: who the guest is and how it reaches the cloud. Every medium has it; that of a guest without a
// credential, which is a copy of a template and has to be told who it is, has nothing else.
type Boot struct {
	FormatVersion int    `json:"formatVersion"`
	InstanceID    string `json:"instanceId"`
	// MAC is the address that the guest gives its network card, six bytes in hex with colons, unicast. Empty: it
	// keeps what the card has. A copy of a template needs it, for its card has the template's.
	MAC string `json:"mac,omitempty"`
	// Time is when the medium was made, by the node's clock. A copy of a template sets its clock by it, which went
	// on from the moment that the template was saved. Zero: the guest has to ask somebody.
	Time      time.Time         `json:"time,omitzero"`
	Endpoints map[string]string `json:"endpoints,omitempty"` // service (iam, elb) to base URL
	CAPEM     string            `json:"caPem,omitempty"`     // what signed the endpoints' certificates
	Entropy   []byte            `json:"entropy"`             // EntropySize bytes, made for this medium
	Region    string            `json:"region,omitempty"`
	// Credential names the credential on the medium, for the guest to say which it has read. It tells nothing of it.
	// Empty: there is none, or the guest need not say.
	Credential string `json:"credential,omitempty"`
	// Traceparent is the step of a trace that the guest's life is a part of (W3C Trace Context); the guest tells it with
	// its calls. Empty: it tells none.
	Traceparent string `json:"traceparent,omitempty"`
}

// Files returns the file of a medium without a credential, by name. The caller wipes it after writing.
func (b Boot) Files() (map[string][]byte, error) {
	if err := b.validate(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", BootFile, err)
	}
	return map[string][]byte{BootFile: text}, nil
}

// ReadBoot reads and checks the boot file of a medium, with or without a credential beside it. It never quotes what it
// read. The caller wipes Entropy after use.
func ReadBoot(fsys fs.FS) (Boot, error) {
	var b Boot
	if err := readJSON(fsys, BootFile, &b); err != nil {
		return Boot{}, err
	}
	if err := b.validate(); err != nil {
		clear(b.Entropy)
		return Boot{}, err
	}
	return b, nil
}

// HardwareAddr is MAC, or nil when there is none.
func (b Boot) HardwareAddr() (net.HardwareAddr, error) {
	if b.MAC == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(b.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return nil, fmt.Errorf("%w: %s: mac is no address of a network card", ErrMedium, BootFile)
	}
	return mac, nil
}

func (b Boot) validate() error {
	switch {
	case b.FormatVersion != BootFormat:
		return fmt.Errorf("%w: %s: formatVersion is %d, this reads %d", ErrMedium, BootFile, b.FormatVersion, BootFormat)
	case b.InstanceID == "":
		return fmt.Errorf("%w: %s: instanceId is missing", ErrMedium, BootFile)
	case len(b.Entropy) != EntropySize:
		return fmt.Errorf("%w: %s: entropy has %d bytes, want %d", ErrMedium, BootFile, len(b.Entropy), EntropySize)
	}
	// The guest writes it into a header: nothing of another form may get there.
	if b.Traceparent != "" && !isTraceparent(b.Traceparent) {
		return fmt.Errorf("%w: %s: traceparent is not one of W3C Trace Context", ErrMedium, BootFile)
	}
	_, err := b.HardwareAddr()
	return err
}

// isTraceparent looks at the form of version 00, 00-TRACE-SPAN-FLAGS in lower-case hexadecimal digits.
func isTraceparent(text string) bool {
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != "00" || len(parts[1]) != 32 || len(parts[2]) != 16 || len(parts[3]) != 2 {
		return false
	}
	return strings.Trim(text, "0123456789abcdef-") == ""
}
