package accel

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tscTolerance is how far two measurements of one counter may lie apart, as 1/N of its rate: 200 ppm, some ten times
// what TSCKHz errs by on a busy host, and below the 500 ppm that clocks are disciplined by. Two kinds of processors
// lie further apart.
const tscTolerance = 5000

// maxTSCFile bounds what is read back, in bytes.
const maxTSCFile = 32

// SteadyTSCKHz is TSCKHz with the same answer in every process of this host: the first measurement is kept in the
// folder dir, and stands until another one contradicts it. Guests that were copied from one that was told a rate go on
// with it, so it must be true for them, too. A folder that cannot be written costs the steadiness, and is no error.
func SteadyTSCKHz(dir string) (khz int, ok bool) {
	khz, ok = TSCKHz()
	if !ok {
		return 0, false
	}
	return steady(filepath.Join(dir, "tsc-khz"), khz), true
}

// steady returns the rate in the file when measured agrees with it, or else puts measured there.
func steady(path string, measured int) int {
	text, err := os.ReadFile(path)
	if err == nil && len(text) <= maxTSCFile {
		kept, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if diff := max(measured-kept, kept-measured); err == nil && kept > 0 && diff <= kept/tscTolerance {
			return kept
		}
	}
	_ = replace(path, fmt.Appendf(nil, "%d\n", measured))
	return measured
}
