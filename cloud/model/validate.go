package model

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxViolations bounds how many broken constraints one message lists.
const maxViolations = 20

// violation is one broken constraint.
type violation struct {
	path    string
	value   string // as shown: quoted, "null", or empty when it must not be shown
	rule    string // AWS's words
	missing bool
}

// validate checks in, a pointer to a struct, against the constraints in its tags.
func (c *codec) validate(in any) error {
	v := reflect.ValueOf(in).Elem()
	var found []violation
	c.checkFields(c.plan(v.Type()), v, "", &found)
	if len(found) == 0 {
		return nil
	}
	if c.protocol == ProtocolEC2 {
		return ec2Violation(found[0])
	}
	plural := ""
	if len(found) > 1 {
		plural = "s"
	}
	parts := make([]string, len(found))
	for i, f := range found {
		value := "Value "
		if f.value != "" {
			value += f.value + " "
		}
		parts[i] = fmt.Sprintf("%sat '%s' failed to satisfy constraint: %s", value, f.path, f.rule)
	}
	return Errorf("ValidationError", http.StatusBadRequest, "%d validation error%s detected: %s",
		len(found), plural, strings.Join(parts, "; "))
}

// ec2Violation words a violation as EC2 does, which reports one at a time.
func ec2Violation(f violation) *Error {
	if f.missing {
		return Errorf("MissingParameter", http.StatusBadRequest, "The request must contain the parameter %s", f.path)
	}
	if f.value == "" {
		return Errorf("InvalidParameterValue", http.StatusBadRequest, "The value for parameter %s is invalid. %s",
			f.path, f.rule)
	}
	return Errorf("InvalidParameterValue", http.StatusBadRequest, "Value (%s) for parameter %s is invalid. %s",
		strings.Trim(f.value, "'"), f.path, f.rule)
}

func (c *codec) checkFields(p *structPlan, v reflect.Value, path string, found *[]violation) {
	for _, f := range p.fields {
		name := f.query
		if c.protocol == ProtocolQuery {
			name = lowerFirst(name)
		}
		c.check(f.value, v.Field(f.index), join(path, name), found)
	}
}

func (c *codec) check(p *valuePlan, v reflect.Value, path string, found *[]violation) {
	if len(*found) >= maxViolations {
		return
	}
	if absent(v) {
		if p.checks.required {
			*found = append(*found, violation{
				path: path, value: "null", rule: "Member must not be null", missing: true,
			})
		}
		return
	}
	if p.pointer {
		v = v.Elem()
	}
	p.checks.apply(p.kind, v, path, found)
	switch p.kind {
	case kindStruct:
		c.checkFields(p.fields, v, path, found)
	case kindList:
		for i := range v.Len() {
			c.check(p.elem, v.Index(i), c.entryPath(path, i+1), found)
		}
	case kindMap:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			c.check(p.key, k, path, found)
			c.check(p.elem, v.MapIndex(k), path, found)
		}
	case kindString, kindInt, kindFloat, kindBool, kindTime, kindBlob:
	}
}

// entryPath names a list's entry as the service's messages do.
func (c *codec) entryPath(path string, number int) string {
	path += "." + strconv.Itoa(number)
	if c.protocol == ProtocolQuery {
		path += ".member"
	}
	return path
}

func (k checks) apply(kd kind, v reflect.Value, path string, found *[]violation) {
	add := func(format string, args ...any) {
		*found = append(*found, violation{path: path, value: k.shown(kd, v), rule: fmt.Sprintf(format, args...)})
	}
	size, what := measure(kd, v)
	if k.min != nil && size < *k.min {
		add("Member must have %s greater than or equal to %s", what, strconv.FormatFloat(*k.min, 'f', -1, 64))
	}
	if k.max != nil && size > *k.max {
		add("Member must have %s less than or equal to %s", what, strconv.FormatFloat(*k.max, 'f', -1, 64))
	}
	if kd != kindString {
		return
	}
	if k.pattern != nil && !k.pattern.MatchString(v.String()) {
		add("Member must satisfy regular expression pattern: %s", k.source)
	}
	if len(k.enum) > 0 && !slices.Contains(k.enum, v.String()) {
		add("Member must satisfy enum value set: [%s]", strings.Join(k.enum, ", "))
	}
}

// measure returns what a bound bounds: a number's value, and a text's or list's length.
func measure(kd kind, v reflect.Value) (size float64, what string) {
	switch kd {
	case kindInt:
		return float64(v.Int()), "value"
	case kindFloat:
		return v.Float(), "value"
	case kindString:
		return float64(utf8.RuneCountInString(v.String())), "length"
	case kindBlob, kindList, kindMap:
		return float64(v.Len()), "length"
	case kindBool, kindTime, kindStruct:
	}
	return 0, "value"
}

// shown is the value as a message may repeat it: AWS leaves out values of sensitive members.
func (k checks) shown(kd kind, v reflect.Value) string {
	if k.sensitive {
		return ""
	}
	switch kd {
	case kindString:
		return "'" + printable(v.String()) + "'"
	case kindInt:
		return "'" + strconv.FormatInt(v.Int(), 10) + "'"
	case kindFloat:
		return "'" + strconv.FormatFloat(v.Float(), 'f', -1, 64) + "'"
	case kindBool, kindTime, kindBlob, kindStruct, kindList, kindMap:
	}
	return ""
}

func absent(v reflect.Value) bool {
	switch v.Kind() { //nolint:exhaustive // only these can be nil
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return v.IsNil()
	}
	return false
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}
