package iam

import (
	"testing"
	"time"
)

// TestRefusalsAreBounded counts what callers without credentials may have the audit keep.
func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	begun := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for i := range maxUnsigned + 30 {
		passed, ok := r.take(begun.Add(time.Duration(i) * time.Millisecond))
		if want := i < maxUnsigned; ok != want || passed != 0 {
			t.Fatalf("refusal %d: recorded %t, %d before it not; want %t, 0", i, ok, passed, want)
		}
	}
	if passed, ok := r.take(begun.Add(time.Second)); !ok || passed != 30 {
		t.Errorf("in the next second: recorded %t, %d before it not; want true, 30", ok, passed)
	}
	if passed, ok := r.take(begun.Add(time.Second)); !ok || passed != 0 {
		t.Errorf("after it was told: recorded %t, %d before it not; want true, 0", ok, passed)
	}
}
