package model

import (
	"fmt"
	"regexp"
	"strings"
)

// javaEscape finds the code points that the service models write in Java's form. Java's \u takes four digits; the
// models' authors meant more in \u10000-\u10FFFF, which is the supplementary planes and nothing else.
var javaEscape = regexp.MustCompile(`\\u10000-\\u10FFFF|\\u[0-9A-Fa-f]{4}`)

// CompilePattern compiles a pattern of a service model, which must match a whole value. Patterns that look ahead or
// behind have no counterpart in RE2 and are an error; the generator leaves those out of its tags.
func CompilePattern(pattern string) (*regexp.Regexp, error) {
	adapted := javaEscape.ReplaceAllStringFunc(pattern, func(m string) string {
		if strings.Contains(m, "-") {
			return `\x{10000}-\x{10FFFF}`
		}
		return `\x{` + m[2:] + `}`
	})
	re, err := regexp.Compile(`\A(?:` + adapted + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("compile pattern %q: %w", pattern, err)
	}
	return re, nil
}
