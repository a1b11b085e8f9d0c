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
	// RehearsalFile, alone on its medium, is for a copy of a template that is kept in store until it is needed: the
	// guest plays its start once, says "rehearsed" on its console, and waits for its own medium. The file holds
	// EntropySize bytes of fresh randomness, for that copy alone.
	RehearsalFile = "rehearse"
)

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
	files, err := m.Boot.Files()
	if err != nil {
		return nil, err
	}
	files[CredentialFile] = m.credential()
	return files, nil
}

// credential writes CredentialFile into one buffer, which the caller can wipe: encoding/json would leave LBPK in
// strings and buffers of its own. Neither base64 nor the names need quoting.
func (m *Medium) credential() []byte {
	fields := []struct {
		name  string
		value []byte
	}{
		{"instance_pub_key", m.LBCertPEM}, {"iam_pub_key", m.IAMCertPEM}, {"iam_token", nil},
		{"euca_pub_key", m.CloudCertPEM}, {"instance_pk", m.LBKey},
	}
	const punctuation = len(`,"":""`)
	size := len("{}") + len(iamToken)
	for _, f := range fields {
		size += len(f.name) + punctuation + base64.StdEncoding.EncodedLen(len(f.value))
	}
	out := append(make([]byte, 0, size), '{')
	for i, f := range fields {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), f.name...), `":"`...)
		if f.name == "iam_token" {
			out = append(out, iamToken...)
		}
		out = append(base64.StdEncoding.AppendEncode(out, f.value), '"')
	}
	return append(out, '}')
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
	case b.InstanceID != cert.Subject.CommonName:
		return fmt.Errorf("%w: %s is for instance %q, the credential for %q", ErrMedium, BootFile, b.InstanceID,
			cert.Subject.CommonName)
	case b.Endpoints["iam"] == "" || b.Endpoints["elb"] == "":
		return fmt.Errorf("%w: %s: endpoints must name iam and elb", ErrMedium, BootFile)
	}
	return m.Boot.validate()
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
