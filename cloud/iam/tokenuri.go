package iam

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// ErrTokenURI means that a PKCS#11 URI does not say what is needed; the wrapping error names the attribute.
var ErrTokenURI = errors.New("bad PKCS#11 URI")

// TokenURI is a PKCS#11 URI (RFC 7512) that names a secret key on a token and how to get at it.
type TokenURI struct {
	// Token, Serial, Manufacturer and Model choose the token; Token or Serial is required.
	Token, Serial, Manufacturer, Model string
	// Object is the key's label (CKA_LABEL) and ID its CKA_ID; one is required.
	Object string
	ID     string // raw bytes
	// ModulePath is the absolute path of the token's library. Required.
	ModulePath string
	// PINSource is the absolute path of the file that holds the user's PIN. Required.
	PINSource string
}

// ParseTokenURI reads a URI such as
//
//	pkcs11:token=cloud;object=cloudtwin?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/cloudtwin/pin
//
// A pin-value is refused: it would stand in the list of processes and in shells' histories.
func ParseTokenURI(text string) (TokenURI, error) {
	var u TokenURI
	rest, ok := strings.CutPrefix(text, "pkcs11:")
	if !ok {
		return u, fmt.Errorf("%w: it must begin with pkcs11: and the token", ErrTokenURI)
	}
	path, query, _ := strings.Cut(rest, "?")
	into := map[string]*string{
		"token": &u.Token, "serial": &u.Serial, "manufacturer": &u.Manufacturer, "model": &u.Model, "object": &u.Object,
		"id": &u.ID,
	}
	if err := parseAttributes(path, ";", into); err != nil {
		return u, err
	}
	into = map[string]*string{"module-path": &u.ModulePath, "pin-source": &u.PINSource}
	if err := parseAttributes(query, "&", into); err != nil {
		return u, err
	}
	u.PINSource = strings.TrimPrefix(strings.TrimPrefix(u.PINSource, "file://"), "file:")
	return u, u.validate()
}

// parseAttributes reads attributes into their places. Each may be there once, and what has no place is refused: it may
// be what tells the right key from a wrong one.
func parseAttributes(text, separator string, into map[string]*string) error {
	if text == "" {
		return nil
	}
	for _, attribute := range strings.Split(text, separator) {
		name, encoded, ok := strings.Cut(attribute, "=")
		if !ok {
			return fmt.Errorf("%w: an attribute has no value", ErrTokenURI)
		}
		place := into[name]
		switch {
		case name == "pin-value":
			return fmt.Errorf("%w: pin-value is refused, for others can read command lines; use pin-source=file:PATH",
				ErrTokenURI)
		case name == "type":
			if encoded != "secret-key" {
				return fmt.Errorf("%w: type must be secret-key", ErrTokenURI)
			}
			continue
		case place == nil:
			return fmt.Errorf("%w: the attribute %.40q is not known", ErrTokenURI, name)
		case *place != "":
			return fmt.Errorf("%w: %s is there twice", ErrTokenURI, name)
		}
		value, err := url.PathUnescape(encoded)
		if err != nil || value == "" {
			return fmt.Errorf("%w: %s has no value that can be read", ErrTokenURI, name)
		}
		*place = value
	}
	return nil
}

func (u TokenURI) validate() error {
	var errs []error
	want := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: %s", ErrTokenURI, what))
		}
	}
	want(u.Token != "" || u.Serial != "", "token or serial is required: the token's label or serial number")
	want(u.Object != "" || u.ID != "", "object or id is required: the key's label or id")
	want(filepath.IsAbs(u.ModulePath), "module-path is required, and absolute: the path of the token's library")
	want(filepath.IsAbs(u.PINSource), "pin-source is required: file: and the absolute path of the file with the PIN")
	return errors.Join(errs...)
}

// place names the token and key without the way to them.
func (u TokenURI) place() string {
	var parts []string
	for _, a := range []struct{ name, value string }{
		{"token", u.Token}, {"serial", u.Serial}, {"manufacturer", u.Manufacturer}, {"model", u.Model},
		{"object", u.Object}, {"id", u.ID},
	} {
		if a.value != "" {
			parts = append(parts, a.name+"="+url.PathEscape(a.value))
		}
	}
	return "pkcs11:" + strings.Join(parts, ";")
}
