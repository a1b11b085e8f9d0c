package keydelivery

import (
	"bytes"
	"fmt"
	"strconv"
)

// Keyword opens user data that asks for a credential medium: KEYWORD:DAYS, a newline, then the payload.
const Keyword = "euca-c2V0dXAtY3JlZGVudGlhbA=="

// DefaultDays and MaxDays bound an LBCERT's validity.
const (
	DefaultDays = 365
	MaxDays     = 3650
)

// ParseUserData splits user data into the payload that the guest sees and the validity it asks for. Without the
// keyword as the whole start of the first line, wanted is false and payload is userData itself.
func ParseUserData(userData []byte) (payload []byte, days int, wanted bool, err error) {
	rest, found := bytes.CutPrefix(userData, []byte(Keyword))
	if !found {
		return userData, 0, false, nil
	}
	line, payload, _ := bytes.Cut(rest, []byte("\n"))
	line = bytes.TrimRight(line, "\r ")
	if len(line) == 0 {
		return payload, DefaultDays, true, nil
	}
	digits, found := bytes.CutPrefix(line, []byte(":"))
	if !found {
		return userData, 0, false, nil
	}
	days, err = strconv.Atoi(string(digits))
	if err != nil || days < 1 || days > MaxDays {
		return nil, 0, true, fmt.Errorf("credential keyword: days must be a whole number from 1 to %d", MaxDays)
	}
	return payload, days, true, nil
}

// WithKeyword puts the keyword's line before payload.
func WithKeyword(days int, payload []byte) []byte {
	return append([]byte(Keyword+":"+strconv.Itoa(days)+"\n"), payload...)
}
