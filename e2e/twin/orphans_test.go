package twin

import "testing"

// TestIsDeadGuest takes only ended guests that are this process's: to wait for any other child would take its exit
// code away from os/exec.
func TestIsDeadGuest(t *testing.T) {
	for stat, want := range map[string]bool{
		"71 (qemu-system-x86) Z 42 71 71 0":  true,
		"71 (qemu-system-x86) S 42 71 71 0":  false, // it runs
		"71 (qemu-system-x86) Z 421 71 71 0": false, // another's
		"71 (qemu-system-x86) Z 1 42 42 0":   false, // init's
		"71 (cloudtwin) Z 42 71 71 0":        false, // os/exec's
		"71 (a) Z 42 (qemu-system) S 1":      false,
		"71 (qemu-system":                    false,
		"":                                   false,
	} {
		if got := isDeadGuest(stat, 42); got != want {
			t.Errorf("%q: %t, want %t", stat, got, want)
		}
	}
}
