package model

import (
	"net/url"
	"strconv"
	"strings"
)

// Secret stands in records for a parameter that must not be repeated.
const Secret = "(secret)"

// Recordable returns what of a request's form may be put on record: the parameters that the operation's model knows, as
// they were sent, well-formed or not. Those that the model calls sensitive, passwords, private keys, one-time codes and
// whatever looks like a private key in another place, are Secret. Parameters that the model does not know are left
// out: nobody can say what is in them.
func (h Handler) Recordable(form url.Values) url.Values {
	in := h.codec.planOf(h.Operation)
	kept := url.Values{}
	for name, values := range form {
		if first, _, _ := strings.Cut(name, "."); in.field(first) == nil || len(values) == 0 {
			continue
		}
		known, secret := h.codec.lookUp(in, strings.Split(name, "."))
		if !known {
			continue
		}
		value := values[0]
		if value != "" && (secret || strings.Contains(value, "PRIVATE KEY")) {
			value = Secret
		}
		kept.Set(name, value)
	}
	return kept
}

// lookUp follows a parameter's name through the model of a structure.
func (c *codec) lookUp(s *structPlan, parts []string) (known, secret bool) {
	f := s.field(parts[0])
	if f == nil {
		return false, false
	}
	known, secret = c.lookUpValue(f.value, parts[1:])
	return known, secret || f.value.checks.sensitive
}

func (c *codec) lookUpValue(p *valuePlan, rest []string) (known, secret bool) {
	if len(rest) == 0 {
		// A list or structure without entries is said by its bare name.
		return true, false
	}
	switch p.kind {
	case kindStruct:
		return c.lookUp(p.fields, rest)
	case kindList:
		if c.protocol == ProtocolQuery {
			if rest[0] != "member" {
				return false, false
			}
			rest = rest[1:]
		}
		if len(rest) == 0 || !isNumber(rest[0]) {
			return false, false
		}
		return c.lookUpValue(p.elem, rest[1:])
	case kindMap:
		if len(rest) < 3 || rest[0] != "entry" || !isNumber(rest[1]) {
			return false, false
		}
		switch rest[2] {
		case "key":
			return c.lookUpValue(p.key, rest[3:])
		case "value":
			return c.lookUpValue(p.elem, rest[3:])
		}
		return false, false
	case kindString, kindInt, kindFloat, kindBool, kindTime, kindBlob:
	}
	return false, false
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 32)
	return err == nil
}

// secretByName says whether a parameter of that name is a secret although its model may not say so.
func secretByName(name string) bool {
	for _, word := range []string{"Password", "PrivateKey", "SecretAccessKey", "AuthenticationCode", "TokenCode",
		"SAMLAssertion", "WebIdentityToken", "UserData"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
