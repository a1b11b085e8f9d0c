package api

import (
	"bytes"
	"slices"
	"strings"
)

// maxMade bounds the identifiers that the record of a request holds.
const maxMade = 100

// Made returns the identifiers that an answer gives to what it made, in the order of their appearance, each once, at
// most 100: the ids of resources and access keys, and the DNS names of load balancers. An answer that was made again
// from the same request has others in their places. Secrets are never among them: only an element's whole text of an
// identifier's form counts.
func Made(answer []byte) []string {
	var made []string
	for len(made) < maxMade {
		open := bytes.IndexByte(answer, '<')
		if open < 0 {
			break
		}
		answer = answer[open+1:]
		end := bytes.IndexByte(answer, '>')
		if end < 0 {
			break
		}
		name, rest := answer[:end], answer[end+1:]
		answer = rest
		next := bytes.IndexByte(rest, '<')
		if next <= 0 || bytes.HasPrefix(name, []byte("/")) {
			continue
		}
		text := string(rest[:next])
		if (isIdentifier(text) || string(name) == "DNSName") && !slices.Contains(made, text) {
			made = append(made, text)
		}
	}
	return made
}

// madeNothing says whether an operation only reads, so that the identifiers in its answer are not new.
func madeNothing(operation string) bool {
	for _, prefix := range []string{"Describe", "List", "Simulate"} {
		if strings.HasPrefix(operation, prefix) {
			return true
		}
	}
	// GetSessionToken and GetFederationToken make sessions.
	return strings.HasPrefix(operation, "Get") && !strings.HasSuffix(operation, "Token")
}

// resourcePrefixes begin the ids of resources, before a dash and hexadecimal digits.
func resourcePrefixes() []string {
	return []string{"i", "r", "vol", "eni", "eipalloc", "eipassoc", "iip-assoc", "sg", "subnet", "vpc", "ami", "snap",
		"key"}
}

// uniquePrefixes begin the ids of principals, keys and certificates, before capitals and digits.
func uniquePrefixes() []string {
	return []string{"AKIA", "ASIA", "AIDA", "AROA", "AIPA", "ANPA", "ASCA", "AGPA", "ANVA", "APKA"}
}

func isIdentifier(text string) bool {
	const longest = 64
	if len(text) < len("i-")+8 || len(text) > longest {
		return false
	}
	if dash := strings.LastIndexByte(text, '-'); dash > 0 {
		return slices.Contains(resourcePrefixes(), text[:dash]) && len(text)-dash > 8 &&
			strings.Trim(text[dash+1:], "0123456789abcdef") == ""
	}
	return len(text) >= 16 && slices.Contains(uniquePrefixes(), text[:4]) &&
		strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}
