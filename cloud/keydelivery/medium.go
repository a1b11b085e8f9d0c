package keydelivery

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// The medium's files. The first is the original format, the second our own.
const (
	CredentialFile = "credential"
	BootFile       = "cloudtwin.json"
)

// EntropySize is how many bytes of fresh randomness a medium carries.
const EntropySize = 64

// BootFormat is the version of BootFile that this package writes and reads.
const BootFormat = 1

// ErrMedium means that a medium is not what the protocol says; the wrapping error names the file and the field.
var ErrMedium = errors.New("bad medium")

// Medium is what a floppy brings to an LBVM.
type Medium struct {
	LBCertPEM    []byte
	IAMCertPEM   []byte
	CloudCertPEM []byte
	LBKey        Secret
	Boot         Boot
}

// Boot is BootFile: how the guest reaches the cloud.
type Boot struct {
	FormatVersion int               `json:"formatVersion"`
	InstanceID    string            `json:"instanceId"`
	Endpoints     map[string]string `json:"endpoints"` // service (iam, elb) to base URL
	CAPEM         string            `json:"caPem"`     // what signed the endpoints' certificates
	Entropy       []byte            `json:"entropy"`   // EntropySize bytes, made for this medium
	Region        string            `json:"region"`
}

// credentialFile is CredentialFile as the original guest reads it.
type credentialFile struct {
	InstanceCert string `json:"instance_pub_key"`
	IAMCert      string `json:"iam_pub_key"`
	IAMToken     string `json:"iam_token"`
	CloudCert    string `json:"euca_pub_key"`
	InstanceKey  string `json:"instance_pk"`
}

// Identity returns the medium's LBCERT and LBPK.
func (m *Medium) Identity() Identity { return Identity{CertPEM: m.LBCertPEM, Key: m.LBKey} }

// Files returns the medium's files by name. The caller wipes them after writing.
func (m *Medium) Files() (map[string][]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	b64 := base64.StdEncoding.EncodeToString
	credential, err := json.Marshal(credentialFile{
		InstanceCert: b64(m.LBCertPEM), IAMCert: b64(m.IAMCertPEM), IAMToken: "NULL",
		CloudCert: b64(m.CloudCertPEM), InstanceKey: b64(m.LBKey),
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", CredentialFile, err)
	}
	boot, err := json.Marshal(m.Boot)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", BootFile, err)
	}
	return map[string][]byte{CredentialFile: credential, BootFile: boot}, nil
}

// ReadMedium reads and checks a medium: every file bounded, every field named when it is wrong, key and
// certificate of one pair. It never quotes what it read.
func ReadMedium(fsys fs.FS) (*Medium, error) {
	var file credentialFile
	if err := readJSON(fsys, CredentialFile, &file); err != nil {
		return nil, err
	}
	m := &Medium{}
	if err := readJSON(fsys, BootFile, &m.Boot); err != nil {
		return nil, err
	}
	key := []byte(nil)
	for _, field := range []struct {
		name string
		text string
		into *[]byte
	}{
		{"instance_pub_key", file.InstanceCert, &m.LBCertPEM},
		{"iam_pub_key", file.IAMCert, &m.IAMCertPEM},
		{"euca_pub_key", file.CloudCert, &m.CloudCertPEM},
		{"instance_pk", file.InstanceKey, &key},
	} {
		data, err := decodeBase64(field.text)
		if err != nil || len(data) == 0 {
			return nil, fmt.Errorf("%w: %s: %s is not base64", ErrMedium, CredentialFile, field.name)
		}
		*field.into = data
	}
	m.LBKey = key
	return m, m.validate()
}

func (m *Medium) validate() error {
	cert, _, err := m.Identity().parse()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMedium, CredentialFile, err)
	}
	if _, err := parseCertificate(m.IAMCertPEM); err != nil {
		return fmt.Errorf("%w: %s: iam_pub_key: %w", ErrMedium, CredentialFile, err)
	}
	switch b := m.Boot; {
	case b.FormatVersion != BootFormat:
		return fmt.Errorf("%w: %s: formatVersion is %d, this reads %d", ErrMedium, BootFile, b.FormatVersion, BootFormat)
	case b.InstanceID != cert.Subject.CommonName:
		return fmt.Errorf("%w: %s is for instance %q, the credential for %q", ErrMedium, BootFile, b.InstanceID,
			cert.Subject.CommonName)
	case b.Endpoints["iam"] == "" || b.Endpoints["elb"] == "":
		return fmt.Errorf("%w: %s: endpoints must name iam and elb", ErrMedium, BootFile)
	case len(b.Entropy) != EntropySize:
		return fmt.Errorf("%w: %s: entropy has %d bytes, want %d", ErrMedium, BootFile, len(b.Entropy), EntropySize)
	}
	return nil
}

func readJSON(fsys fs.FS, name string, into any) error {
	f, err := fsys.Open(name)
	if err != nil {
		return fmt.Errorf("%w: open %s: %w", ErrMedium, name, err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxField+1))
	defer clear(data)
	switch {
	case err != nil:
		return fmt.Errorf("%w: read %s: %w", ErrMedium, name, err)
	case len(data) > maxField:
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrMedium, name, maxField)
	}
	if err := json.Unmarshal(bytes.TrimRight(data, " \x00"), into); err != nil {
		// The decoder's own words may quote the file, and the file holds a key.
		return fmt.Errorf("%w: %s is not the JSON it should be", ErrMedium, name)
	}
	return nil
}

// decodeBase64 is lenient as the original was: line breaks, spaces and missing padding are forgiven.
func decodeBase64(text string) ([]byte, error) {
	if len(text) > maxField {
		return nil, errors.New("too long")
	}
	compact := make([]byte, 0, len(text))
	for i := range len(text) {
		switch c := text[i]; c {
		case '\n', '\r', ' ', '\t', '=':
		default:
			compact = append(compact, c)
		}
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(compact)))
	n, err := base64.RawStdEncoding.Decode(out, compact)
	return out[:n], err
}
