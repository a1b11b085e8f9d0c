// Package fault describes what is to go wrong in a cloud, as data: single faults, and schedules of them that a file
// holds. It checks them, draws random ones from a seed, and finds the smallest schedule that still breaks something.
// It does nothing of it: the cloud (package cloud) has the faults of its API and store happen, and hands those of nodes
// and guests to the nodes (package node/fault).
//
// Read kinds.go for what there is, then Fault and Schedule, then Random and Shrink.
package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Version is that of a schedule's format.
const Version = 1

// The bounds of a schedule.
const (
	MaxFile   = 1 << 20 // bytes
	MaxFaults = 1000
	MaxTime   = 7 * 24 * time.Hour
	maxTarget = 512
)

// ErrInvalid means that a fault or a schedule breaks a rule; what wraps it names the field and the rule.
var ErrInvalid = errors.New("not a fault")

// Fault is one thing that goes wrong, from one time to another. Catalogue tells what each kind takes.
type Fault struct {
	// ID names it: letters, digits, dots, dashes and underscores, at most 64; unique in its schedule.
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Target is what it happens to, see Scope; empty means everything.
	Target string `json:"target,omitempty"`
	// At is when it begins, after its schedule was loaded.
	At Duration `json:"at,omitzero"`
	// For is how long it lasts; zero means until it is cleared. Kinds that are a moment have none.
	For Duration `json:"for,omitzero"`
	// Rate is the part of all occasions on which it happens, above 0 and at most 1; zero means 1.
	Rate float64 `json:"rate,omitempty"`
	// Seed is that of its chance; zero means the schedule's.
	Seed uint64 `json:"seed,omitempty"`
	// With are the kind's parameters.
	With map[string]string `json:"with,omitempty"`
}

// Schedule is a set of faults and the seed of their chance.
type Schedule struct {
	Version int     `json:"version"`
	Seed    uint64  `json:"seed"`
	Comment string  `json:"comment,omitempty"`
	Faults  []Fault `json:"faults"`
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

// Parse reads and checks a schedule. Its errors are ErrInvalid and name the field and the rule.
func Parse(data []byte) (Schedule, error) {
	if len(data) > MaxFile {
		return Schedule{}, fmt.Errorf("%w: schedule of more than %d bytes", ErrInvalid, MaxFile)
	}
	var s Schedule
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return Schedule{}, fmt.Errorf("%w: parse schedule: %w", ErrInvalid, err)
	}
	if dec.More() {
		return Schedule{}, fmt.Errorf("%w: parse schedule: something follows the object", ErrInvalid)
	}
	return s, s.Validate()
}

// JSON writes the schedule as Parse reads it, indented, the same bytes for the same schedule.
func (s Schedule) JSON() []byte {
	if s.Faults == nil {
		s.Faults = []Fault{}
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("write schedule: %v", err)) // its types can all be written
	}
	return append(data, '\n')
}

// Validate reports all that is wrong with s at once.
func (s Schedule) Validate() error {
	var errs []error
	if s.Version != Version {
		errs = append(errs, fmt.Errorf("%w: version %d: want %d", ErrInvalid, s.Version, Version))
	}
	if len(s.Faults) > MaxFaults {
		errs = append(errs, fmt.Errorf("%w: faults: %d, want at most %d", ErrInvalid, len(s.Faults), MaxFaults))
	}
	seen := map[string]bool{}
	for i, f := range s.Faults {
		if err := f.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("faults[%d]: %w", i, err))
		}
		if seen[f.ID] {
			errs = append(errs, fmt.Errorf("%w: faults[%d].id %q: it is there twice", ErrInvalid, i, f.ID))
		}
		seen[f.ID] = true
	}
	return errors.Join(errs...)
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Validate reports all that is wrong with f at once.
func (f Fault) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: fault %s: "+format, append([]any{ErrInvalid, f.ID}, args...)...))
	}
	if !idPattern.MatchString(f.ID) {
		bad("id %q: want 1 to 64 letters, digits, dots, dashes and underscores", f.ID)
	}
	if f.At.Duration < 0 || f.At.Duration > MaxTime {
		bad("at %s: want 0s to %s", f.At, MaxTime)
	}
	if f.For.Duration < 0 || f.For.Duration > MaxTime {
		bad("for %s: want 0s to %s", f.For, MaxTime)
	}
	if math.IsNaN(f.Rate) || f.Rate < 0 || f.Rate > 1 {
		bad("rate %g: want above 0 and at most 1", f.Rate)
	}
	info, known := InfoOf(f.Kind)
	if !known {
		bad("kind %q: want one of %s", f.Kind, strings.Join(names(), ", "))
		return errors.Join(errs...)
	}
	f.validateFor(info, bad)
	return errors.Join(errs...)
}

// validateFor tells bad of all that a fault of its kind cannot be.
func (f Fault) validateFor(info Info, bad func(format string, args ...any)) {
	if info.Moment && f.For.Duration != 0 {
		bad("for %s: %s is a moment and has no length", f.For, f.Kind)
	}
	if !info.Chance && f.Rate != 0 && f.Rate != 1 {
		bad("rate %g: %s happens always or not at all", f.Rate, f.Kind)
	}
	if err := info.Scope.check(f.Target); err != nil {
		bad("target %q: %w", f.Target, err)
	}
	for _, err := range info.checkWith(f.With) {
		bad("%w", err)
	}
}

func (i Info) checkWith(with map[string]string) (errs []error) {
	for _, p := range i.With {
		value, given := with[p.Name]
		switch {
		case !given && p.Required():
			errs = append(errs, fmt.Errorf("with.%s is missing: %s", p.Name, p.About))
		case given:
			if err := p.check(value); err != nil {
				errs = append(errs, fmt.Errorf("with.%s %q: %w", p.Name, value, err))
			}
		}
	}
	var allowed []string
	for _, p := range i.With {
		allowed = append(allowed, p.Name)
	}
	for _, name := range sortedKeys(with) {
		if !slices.Contains(allowed, name) {
			errs = append(errs, fmt.Errorf("with.%s: %s takes %s", name, i.Kind, orNothing(allowed)))
		}
	}
	if other, given := with["with"]; given && i.Kind == MediumSwap {
		if err := Guests.check(other); err != nil {
			errs = append(errs, fmt.Errorf("with.with %q: %w", other, err))
		}
	}
	return errs
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

func (s Scope) check(target string) error {
	if len(target) > maxTarget {
		return fmt.Errorf("want at most %d bytes", maxTarget)
	}
	switch s {
	case Records:
		if !slices.Contains([]string{"", "*", "read", "write"}, target) {
			return errors.New("want *, read or write")
		}
		return nil
	case Guests:
		_, err := ParseSelector(target)
		return err
	default:
		if _, err := path.Match(target, ""); err != nil {
			return errors.New("want a name, in which * and ? stand for others")
		}
		return nil
	}
}

// Matches says whether a target that is a glob covers a name.
func (f Fault) Matches(name string) bool {
	if f.Target == "" {
		return true
	}
	ok, err := path.Match(f.Target, name)
	return err == nil && ok
}

// Param returns a parameter, its default where it is not given.
func (f Fault) Param(name string) string {
	if value, given := f.With[name]; given {
		return value
	}
	info, _ := InfoOf(f.Kind)
	for _, p := range info.With {
		if p.Name == name {
			return p.Default
		}
	}
	return ""
}

// Time returns a parameter that is a duration; zero when it is none.
func (f Fault) Time(name string) time.Duration {
	d, _ := time.ParseDuration(f.Param(name))
	return d
}

// Number returns a parameter that is a whole number; zero when it is none.
func (f Fault) Number(name string) int {
	n, _ := strconv.Atoi(f.Param(name))
	return n
}

// Chance returns the fault's own source of chance: the same for the same seed and id, whatever else happens. seed is
// its schedule's.
func (f Fault) Chance(seed uint64) *rand.Rand {
	if f.Seed != 0 {
		seed = f.Seed
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(f.ID))
	return rand.New(rand.NewPCG(seed, h.Sum64())) //nolint:gosec // no secret: it is to be the same again
}

// Happens draws whether it happens on an occasion.
func (f Fault) Happens(chance *rand.Rand) bool {
	return f.Rate == 0 || f.Rate >= 1 || chance.Float64() < f.Rate
}

func names() []string {
	out := make([]string, 0, len(catalogue))
	for _, i := range catalogue {
		out = append(out, string(i.Kind))
	}
	return out
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
