package accel

import (
	"os"
	"strings"
	"time"
)

// tscSpan is how long TSCKHz watches; the error of the two clock readings, some 100 ns, is then 10 ppm, far below the
// 250 ppm that Linux allows a calibration.
const tscSpan = 10 * time.Millisecond

// TSCKHz measures the rate of the host's time stamp counter in kHz. Under TCG a guest reads that counter, and may
// measure its rate wrongly when the host is busy; then its clock runs wrong from boot on. ok is false where the
// counter is not steady, as told by the host's own choice of clock, or is no x86 one.
func TSCKHz() (khz int, ok bool) {
	const source = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
	name, err := os.ReadFile(source)
	if err != nil || (strings.TrimSpace(string(name)) != "tsc" && strings.TrimSpace(string(name)) != "kvm-clock") {
		return 0, false
	}
	if !hasTSC {
		return 0, false
	}
	t0, c0 := stamp()
	timer := time.NewTimer(tscSpan)
	<-timer.C
	t1, c1 := stamp()
	elapsed := t1.Sub(t0)
	if elapsed <= 0 || c1 <= c0 {
		return 0, false
	}
	return int(float64(c1-c0) / float64(elapsed.Nanoseconds()) * 1e6), true
}

// stamp reads both clocks as close together as it can: it takes the tightest of several tries, since a thread may be
// interrupted between the two.
func stamp() (time.Time, uint64) {
	const tries = 20
	var at time.Time
	var count, best uint64
	for i := range tries {
		before := rdtsc()
		now := time.Now()
		after := rdtsc()
		if width := after - before; i == 0 || width < best {
			at, count, best = now, before+width/2, width
		}
	}
	return at, count
}
