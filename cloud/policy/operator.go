package policy

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

type comparison int

const (
	compareString comparison = iota
	compareStringFold
	compareStringLike
	compareNumber
	compareDate
	compareBool
	compareBinary
	compareIP
	compareARN
	compareNull
)

type ordering int

const (
	orderEqual ordering = iota
	orderLess
	orderLessEqual
	orderGreater
	orderGreaterEqual
)

type quantifier int

const (
	quantifyNone quantifier = iota
	quantifyAll
	quantifyAny
)

// operator is a condition operator taken apart: ForAllValues:StringNotLikeIfExists and its kin.
type operator struct {
	name       string // as written
	compare    comparison
	order      ordering
	negated    bool
	ifExists   bool
	quantifier quantifier
}

func parseOperator(name string) (operator, bool) {
	op := operator{name: name}
	base := name
	if rest, ok := strings.CutPrefix(base, "ForAllValues:"); ok {
		op.quantifier, base = quantifyAll, rest
	} else if rest, ok := strings.CutPrefix(base, "ForAnyValue:"); ok {
		op.quantifier, base = quantifyAny, rest
	}
	if base == "Null" {
		op.compare = compareNull
		return op, true
	}
	base, op.ifExists = strings.CutSuffix(base, "IfExists")
	return op, op.stringLike(base) || op.ordered(base) || op.other(base)
}

func (op *operator) stringLike(base string) bool {
	switch base {
	case "StringEquals":
		op.compare = compareString
	case "StringNotEquals":
		op.compare, op.negated = compareString, true
	case "StringEqualsIgnoreCase":
		op.compare = compareStringFold
	case "StringNotEqualsIgnoreCase":
		op.compare, op.negated = compareStringFold, true
	case "StringLike":
		op.compare = compareStringLike
	case "StringNotLike":
		op.compare, op.negated = compareStringLike, true
	default:
		return false
	}
	return true
}

func (op *operator) ordered(base string) bool {
	rest, number := strings.CutPrefix(base, "Numeric")
	op.compare = compareNumber
	if !number {
		var date bool
		if rest, date = strings.CutPrefix(base, "Date"); !date {
			return false
		}
		op.compare = compareDate
	}
	switch rest {
	case "Equals":
	case "NotEquals":
		op.negated = true
	case "LessThan":
		op.order = orderLess
	case "LessThanEquals":
		op.order = orderLessEqual
	case "GreaterThan":
		op.order = orderGreater
	case "GreaterThanEquals":
		op.order = orderGreaterEqual
	default:
		return false
	}
	return true
}

func (op *operator) other(base string) bool {
	switch base {
	case "Bool":
		op.compare = compareBool
	case "BinaryEquals":
		op.compare = compareBinary
	case "IpAddress":
		op.compare = compareIP
	case "NotIpAddress":
		op.compare, op.negated = compareIP, true
	// AWS gives the two ARN operators one meaning: parts may hold wildcards.
	case "ArnEquals", "ArnLike":
		op.compare = compareARN
	case "ArnNotEquals", "ArnNotLike":
		op.compare, op.negated = compareARN, true
	default:
		return false
	}
	return true
}

// operand is one value that a policy compares with, compiled for its operator.
type operand struct {
	text    string
	pattern pattern
	arn     arnPattern
	number  float64
	time    time.Time
	prefix  netip.Prefix
	truth   bool
}

// compile reads text for op. Policy variables stand only in string and ARN operands, as the User Guide has it.
func (op *operator) compile(text string, variables bool) (operand, error) {
	o := operand{text: text}
	var err error
	switch op.compare {
	case compareString, compareStringFold:
		o.pattern, err = compilePattern(text, variables, false)
	case compareStringLike:
		o.pattern, err = compilePattern(text, variables, true)
	case compareARN:
		o.arn, err = compileARN(text, variables)
	case compareNumber:
		if o.number, err = strconv.ParseFloat(text, 64); err != nil {
			err = errors.New("is not a number")
		}
	case compareDate:
		var ok bool
		if o.time, ok = parseTime(text); !ok {
			err = errors.New("is not a date of ISO 8601 or a number of seconds since 1970")
		}
	case compareBool, compareNull:
		switch strings.ToLower(text) {
		case "true":
			o.truth = true
		case "false":
		default:
			err = errors.New("must be true or false")
		}
	case compareIP:
		o.prefix, err = parsePrefix(text)
	case compareBinary:
	}
	return o, err
}

func parsePrefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, errors.New("is not an IP address or CIDR block")
}

// parseTime reads the W3C profile of ISO 8601 and seconds since 1970.
func parseTime(text string) (time.Time, bool) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05",
		time.DateOnly, "2006-01", "2006"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), true
	}
	return time.Time{}, false
}

// holds reports whether the request's value have stands in op's relation to want, before any negation. A value that
// is not of the operator's type stands in no relation.
func (op *operator) holds(have string, want *operand, ctx Context) bool {
	switch op.compare {
	case compareString, compareStringLike, compareStringFold:
		ok, _ := want.pattern.match(have, ctx, op.compare == compareStringFold)
		return ok
	case compareARN:
		return want.arn.match(have, ctx)
	case compareNumber:
		n, err := strconv.ParseFloat(have, 64)
		return err == nil && op.inOrder(compareFloat(n, want.number))
	case compareDate:
		t, ok := parseTime(have)
		return ok && op.inOrder(t.Compare(want.time))
	case compareBool:
		return strings.EqualFold(have, strconv.FormatBool(want.truth))
	case compareBinary:
		return have == want.text
	case compareIP:
		a, err := netip.ParseAddr(have)
		return err == nil && want.prefix.Contains(a.Unmap())
	case compareNull:
	}
	return false
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (op *operator) inOrder(c int) bool {
	switch op.order {
	case orderEqual:
		return c == 0
	case orderLess:
		return c < 0
	case orderLessEqual:
		return c <= 0
	case orderGreater:
		return c > 0
	case orderGreaterEqual:
		return c >= 0
	}
	return false
}
