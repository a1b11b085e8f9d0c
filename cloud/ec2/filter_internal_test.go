package ec2

import (
	"strings"
	"testing"
)

func TestWildcard(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "A", false}, {"*", "", true}, {"*", "abc", true},
		{"a*c", "abbc", true}, {"a*c", "abcd", false}, {"a?c", "abc", true}, {"a?c", "ac", false}, {`\*`, "*", true},
		{`\*`, "a", false}, {`a\?`, "a?", true}, {`a\?`, "ab", false}, {"*a*b*", "xxaxxbxx", true}, {"**", "x", true},
		{`\`, `\`, false}, {`\\`, `\`, true},
	}
	for _, tt := range tests {
		if got := wildcard(tt.pattern, tt.text); got != tt.want {
			t.Errorf("wildcard(%q, %q) = %v", tt.pattern, tt.text, got)
		}
	}
}

func FuzzWildcard(f *testing.F) {
	f.Add("a*b?c", "aXXbYc")
	f.Add(strings.Repeat("*a", 50), strings.Repeat("a", 200))
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 300 || len(text) > 300 {
			return
		}
		matched := wildcard(pattern, text)
		if !strings.ContainsAny(pattern, `*?\`) && matched != (pattern == text) {
			t.Fatalf("plain %q against %q: %v", pattern, text, matched)
		}
		if !wildcard(pattern+"*", text) && matched {
			t.Fatalf("%q matches %q, and does not with a star behind it", pattern, text)
		}
	})
}

func TestAddressPool(t *testing.T) {
	var p addressPool
	used := map[string]bool{"10.64.0.17": true}
	var got []string
	for range 3 {
		ip, err := p.propose(func(ip string) bool { return used[ip] })
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ip.String())
	}
	if strings.Join(got, " ") != "10.64.0.16 10.64.0.18 10.64.0.19" {
		t.Errorf("proposed %v", got)
	}
	p.next = lastAddress
	for _, want := range []string{"10.64.255.254", "10.64.0.16"} {
		if ip, err := p.propose(func(string) bool { return false }); err != nil || ip.String() != want {
			t.Errorf("proposed %v, %v; want %s", ip, err, want)
		}
	}
	if _, err := p.propose(func(string) bool { return true }); err == nil {
		t.Error("a full network has an address")
	}
}
