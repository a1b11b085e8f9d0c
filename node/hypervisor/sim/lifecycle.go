package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// Lifecycle is how guests boot and how they fail, as data. fixtures/guests holds some, with a description of the
// format. The zero value boots at once and never fails.
type Lifecycle struct {
	// Name is for people; at most 64 bytes. Default "instant".
	Name string `json:"name,omitempty"`
	// Comment is for readers of the file; it means nothing.
	Comment string `json:"comment,omitempty"`
	// BootTimeout is how long, in real time, a node waits for a guest's first milestone. Default 30 s.
	BootTimeout Duration `json:"bootTimeout,omitzero"`
	Memory      Memory   `json:"memory,omitzero"`
	// Stages in the order of StageNames; what is left out takes no time and does not fail.
	Stages []Stage `json:"stages,omitempty"`
}

// Stage is a step of a guest's life.
type Stage struct {
	// Name is one of StageNames.
	Name string `json:"stage"`
	// Delay is how long the step takes, at most an hour.
	Delay Duration `json:"delay,omitzero"`
	// Jitter is added to or taken from Delay, evenly spread; at most Delay.
	Jitter Duration `json:"jitter,omitzero"`
	// Failures are what may happen in place of the step's end.
	Failures []Failure `json:"failures,omitempty"`
}

// Failure is something that happens to some guests.
type Failure struct {
	Kind FailureKind `json:"kind"`
	// Weight is the part of all guests that it happens to, 0 to 1. A stage's weights are at most 1 together.
	Weight float64 `json:"weight"`
}

// FailureKind is what happens to a guest that fails.
type FailureKind string

// The kinds of failures.
const (
	// Hangs stops the guest for ever: it says nothing more, and its power button does nothing.
	Hangs FailureKind = "hang"
	// Panics is the end of its kernel.
	Panics FailureKind = "panic"
	// OutOfMemory is the same because there was no memory left.
	OutOfMemory FailureKind = "out-of-memory"
	// PowersOff switches the guest off without a word.
	PowersOff FailureKind = "power-off"
)

var failureKinds = []FailureKind{Hangs, Panics, OutOfMemory, PowersOff}

// The stages of a guest's life that a lifecycle models; what is beyond them is the agent's real work.
const (
	StageBoot    = "boot"    // from the start to the first process; ends with the milestone "booted"
	StageModules = "modules" // devices; ends with the milestone "modules"
	StageNetwork = "network" // before the request for an address; then comes the milestone "network"
	StageMedium  = "medium"  // from a medium in the drive to its bytes, each time
)

// StageNames are the stages in their order.
func StageNames() []string { return []string{StageBoot, StageModules, StageNetwork, StageMedium} }

// Memory is what guests need and cost.
type Memory struct {
	// BootMB is the least that a guest boots with, in MB; a smaller one ends out of memory. Default 0.
	BootMB int `json:"bootMB,omitempty"`
	// FixedMB and Percent are what a guest costs its host, by its statistics: so many MB and this part of its own
	// memory. Default 1 MB, which is what a simulated guest costs at most.
	FixedMB int `json:"fixedMB,omitempty"`
	Percent int `json:"percent,omitempty"`
}

// resident is the cost in bytes of a guest with so much memory.
func (m Memory) resident(memoryMB int) uint64 {
	return uint64(m.FixedMB+memoryMB*m.Percent/100) << 20
}

// Duration is a time.Duration that JSON has as text, for example "1.5s".
type Duration struct{ time.Duration }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%s is no duration: want a text like \"1.5s\"", data)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration: want a text like \"1.5s\"", text)
	}
	d.Duration = parsed
	return nil
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

const (
	defaultBootTimeout = 30 * time.Second
	maxDelay           = time.Hour
	maxName            = 64
	maxLifecycleFile   = 64 << 10 // bytes
	maxMemoryMB        = 65536
	maxPercent         = 1000
)

// LoadLifecycle reads and checks a lifecycle's file.
func LoadLifecycle(path string) (Lifecycle, error) {
	f, err := os.Open(path)
	if err != nil {
		return Lifecycle{}, fmt.Errorf("load lifecycle: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLifecycleFile+1))
	if err != nil {
		return Lifecycle{}, fmt.Errorf("load lifecycle %s: %w", path, err)
	}
	l, err := ParseLifecycle(data)
	if err != nil {
		return Lifecycle{}, fmt.Errorf("load lifecycle %s: %w", path, err)
	}
	return l, nil
}

// ParseLifecycle reads and checks a lifecycle. Its errors name the field and the rule.
func ParseLifecycle(data []byte) (Lifecycle, error) {
	if len(data) > maxLifecycleFile {
		return Lifecycle{}, fmt.Errorf("lifecycle of more than %d bytes", maxLifecycleFile)
	}
	var l Lifecycle
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return Lifecycle{}, fmt.Errorf("parse lifecycle: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Lifecycle{}, errors.New("parse lifecycle: something follows the object")
	}
	return l, l.Validate()
}

// Validate reports all that is wrong with l at once.
func (l Lifecycle) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("lifecycle: "+format, args...)) }
	if len(l.Name) > maxName || strings.ContainsFunc(l.Name, func(r rune) bool { return r < ' ' }) {
		bad("name: want at most %d bytes on one line", maxName)
	}
	if l.BootTimeout.Duration < 0 || l.BootTimeout.Duration > maxDelay {
		bad("bootTimeout %s: want 0 to %s", l.BootTimeout, maxDelay)
	}
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"bootMB", l.Memory.BootMB, maxMemoryMB}, {"fixedMB", l.Memory.FixedMB, maxMemoryMB},
		{"percent", l.Memory.Percent, maxPercent},
	} {
		if f.value < 0 || f.value > f.most {
			bad("memory.%s %d: want 0 to %d", f.name, f.value, f.most)
		}
	}
	before := -1
	for i, s := range l.Stages {
		at := slices.Index(StageNames(), s.Name)
		switch {
		case at < 0:
			bad("stages[%d].stage %q: want one of %s", i, s.Name, strings.Join(StageNames(), ", "))
		case at <= before:
			bad("stages[%d].stage %q: each stage at most once, in the order %s", i, s.Name, strings.Join(StageNames(), ", "))
		default:
			before = at
		}
		for _, err := range s.validate() {
			bad("stages[%d] (%s): %w", i, s.Name, err)
		}
	}
	return errors.Join(errs...)
}

func (s Stage) validate() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Delay.Duration < 0 || s.Delay.Duration > maxDelay {
		bad("delay %s: want 0 to %s", s.Delay, maxDelay)
	}
	if s.Jitter.Duration < 0 || s.Jitter.Duration > s.Delay.Duration {
		bad("jitter %s: want 0 to the delay, %s", s.Jitter, s.Delay)
	}
	sum := 0.0
	for i, f := range s.Failures {
		if !slices.Contains(failureKinds, f.Kind) {
			bad("failures[%d].kind %q: want one of %v", i, f.Kind, failureKinds)
		}
		if math.IsNaN(f.Weight) || f.Weight < 0 || f.Weight > 1 {
			bad("failures[%d].weight %g: want 0 to 1", i, f.Weight)
		}
		sum += f.Weight
	}
	const rounding = 1e-9
	if sum > 1+rounding {
		bad("failures: weights are %g together, want at most 1", sum)
	}
	return errs
}

func (l Lifecycle) withDefaults() Lifecycle {
	if l.Name == "" {
		l.Name = "instant"
	}
	if l.BootTimeout.Duration == 0 {
		l.BootTimeout.Duration = defaultBootTimeout
	}
	if l.Memory.FixedMB == 0 && l.Memory.Percent == 0 {
		l.Memory.FixedMB = 1
	}
	return l
}

// life is what a lifecycle has in store for one guest.
type life map[string]step

// step is a stage of one guest's life.
type step struct {
	delay   time.Duration
	failure FailureKind // empty: none
}

// draw chooses the life of a driver's n-th guest. It depends on nothing but its arguments.
func (l Lifecycle) draw(seed, n uint64) life {
	if len(l.Stages) == 0 {
		return nil
	}
	chance := rand.New(rand.NewPCG(seed, n)) //nolint:gosec // no secret: it is to be the same again
	out := make(life, len(l.Stages))
	for _, s := range l.Stages {
		// Always the same number of draws, so that a stage's chances do not depend on another's numbers.
		spread, lot := 2*chance.Float64()-1, chance.Float64()
		one := step{delay: s.Delay.Duration + time.Duration(spread*float64(s.Jitter.Duration))}
		for _, f := range s.Failures {
			if lot < f.Weight {
				one.failure = f.Kind
				break
			}
			lot -= f.Weight
		}
		out[s.Name] = one
	}
	return out
}
