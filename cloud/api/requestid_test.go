package api

import (
	"testing"

	"github.com/google/uuid"
)

func TestRequestID(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := newRequestID()
		parsed, err := uuid.Parse(id)
		if err != nil || parsed.Version() != 4 || parsed.Variant() != uuid.RFC4122 || parsed.String() != id {
			t.Fatalf("%q is no random UUID: version %d, variant %s, error %v", id, parsed.Version(), parsed.Variant(), err)
		}
		if seen[id] {
			t.Fatalf("%s is there twice", id)
		}
		seen[id] = true
	}
}

func TestIsVersion(t *testing.T) {
	for text, want := range map[string]bool{
		"2016-11-15": true, "0000-99-99": true, "": false, "2016-11-1": false, "2016-11-155": false, "2016/11/15": false,
		"2016-11-1x": false, "-016-11-15": false, "20161-1-15": false, "２016-11-15": false,
	} {
		if got := isVersion(text); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}
