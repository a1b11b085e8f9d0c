package control

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
)

// ErrMalformed means that the cloud's answer is none: not the document it should be, or too long.
var ErrMalformed = errors.New("malformed answer")

// Error is the cloud's refusal.
type Error struct {
	// Status of the HTTP answer.
	Status int
	// Code as AWS has it, for example NoSuchEntity. Empty when the answer held none.
	Code string
	// Message for people.
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the cloud answered %d", e.Status)
	}
	return fmt.Sprintf("the cloud answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Final tells a refusal that is about what was asked (not allowed, not there) from one about the moment or the
// request's form: throttling, a fault of the cloud, credentials or a clock that are off.
func (e *Error) Final() bool {
	switch e.Code {
	case "NoSuchEntity", "NotAuthorized", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return true
	default:
		return false
	}
}

// credentials tells whether other credentials may help.
func (e *Error) credentials() bool {
	switch e.Code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException":
		return true
	default:
		return false
	}
}

const (
	maxCode    = 64
	maxMessage = 300
)

// parseError reads a refusal: the first Code and Message elements wherever they stand, since the services nest them
// differently.
func parseError(status int, body []byte) error {
	refusal := &Error{Status: status}
	decoder := xml.NewDecoder(bytes.NewReader(body))
	decoder.Strict = false
	for refusal.Code == "" || refusal.Message == "" {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch element.Name.Local {
		case "Code":
			refusal.Code = elementText(decoder, element, maxCode)
		case "Message":
			refusal.Message = elementText(decoder, element, maxMessage)
		}
	}
	if refusal.Code == "" {
		refusal.Message = http.StatusText(status)
	}
	return refusal
}

// elementText returns an element's text as one printable line of at most limit characters.
func elementText(decoder *xml.Decoder, element xml.StartElement, limit int) string {
	var text string
	if err := decoder.DecodeElement(&text, &element); err != nil {
		return ""
	}
	line := make([]rune, 0, limit)
	for _, r := range text {
		if len(line) == limit {
			break
		}
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		line = append(line, r)
	}
	return string(line)
}
