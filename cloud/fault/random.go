package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Options of Random. The zero value is usable.
type Options struct {
	// Length is the time within which all faults begin and end; default 10 s, at least 100 ms.
	Length time.Duration
	// Faults is how many; default 5.
	Faults int
	// Kinds to draw from; default all.
	Kinds []Kind
	// Guests, Nodes and Operations are the targets to draw from; an empty one means *.
	Guests, Nodes, Operations []string
}

const (
	defaultLength = 10 * time.Second
	defaultFaults = 5
	// step is what times are multiples of, so that a schedule is read easily.
	step = 10 * time.Millisecond
)

// Random draws a schedule. It depends on nothing but its arguments.
func Random(seed uint64, o Options) Schedule {
	if o.Length == 0 {
		o.Length = defaultLength
	}
	if o.Faults == 0 {
		o.Faults = defaultFaults
	}
	if len(o.Kinds) == 0 {
		for _, i := range catalogue {
			o.Kinds = append(o.Kinds, i.Kind)
		}
	}
	chance := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret: it is to be the same again
	s := Schedule{Version: Version, Seed: seed}
	for n := range o.Faults {
		s.Faults = append(s.Faults, o.draw(chance, n))
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At.Duration - b.At.Duration) })
	return s
}

func (o Options) draw(chance *rand.Rand, n int) Fault {
	info, _ := InfoOf(pick(chance, o.Kinds))
	f := Fault{ID: "f" + strconv.Itoa(n+1), Kind: info.Kind, Target: "*"}
	targets := map[Scope][]string{Guests: o.Guests, Nodes: o.Nodes, Operations: o.Operations,
		Records: {"*", "read", "write"}}[info.Scope]
	if len(targets) > 0 {
		f.Target = pick(chance, targets)
	}
	longest := max(o.Length/2, 10*step)
	if length := between(chance, longest/10, longest); !info.Moment {
		f.For.Duration = length
	}
	f.At.Duration = between(chance, 0, max(o.Length-f.For.Duration, 0))
	if rate := chance.IntN(10) + 1; info.Chance && rate < 10 {
		f.Rate = float64(rate) / 10
	}
	f.With = o.parameters(chance, f.Kind)
	return f
}

// parameters draws what hurts, and leaves the rest as it is by default.
func (o Options) parameters(chance *rand.Rand, kind Kind) map[string]string {
	millis := func(most int) string { return strconv.Itoa(chance.IntN(most)+1) + "ms" }
	switch kind {
	case APILatency, StoreSlow, WireDelay:
		return map[string]string{"delay": millis(200), "jitter": millis(100)}
	case WireJitter:
		return map[string]string{"jitter": millis(200)}
	case APIError:
		e := pick(chance, [][2]string{{"InternalFailure", "500"}, {"ServiceUnavailable", "503"}, {"Throttling", "400"}})
		return map[string]string{"code": e[0], "status": e[1]}
	case StoreLeaderLost:
		return map[string]string{"committed": strconv.FormatBool(chance.IntN(2) == 0)}
	case NodeKill:
		return map[string]string{"down": millis(500)}
	case NodeClockSkew, GuestClockJump:
		offset := time.Duration(chance.IntN(4*24*3600)-2*24*3600) * time.Second
		return map[string]string{"offset": offset.String()}
	case CredentialExpire, CertificateExpire:
		return map[string]string{"life": strconv.Itoa(2+chance.IntN(4)) + "s"}
	case WireBandwidth:
		return map[string]string{"bytesPerSecond": strconv.Itoa(1024 * (1 + chance.IntN(256)))}
	case MediumReadError:
		return map[string]string{"sector": strconv.Itoa(chance.IntN(64))} // beyond them there is nothing
	case MediumSwap:
		with := "*"
		if len(o.Guests) > 0 {
			with = pick(chance, o.Guests)
		}
		return map[string]string{"with": with}
	case MediumCorrupt:
		return map[string]string{"bits": strconv.Itoa(1 + chance.IntN(64))}
	default:
		return nil
	}
}

func pick[T any](chance *rand.Rand, from []T) T { return from[chance.IntN(len(from))] }

func between(chance *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least.Truncate(step)
	}
	return (least + time.Duration(chance.Int64N(int64(most-least)))).Truncate(step)
}

// String is a line for people.
func (f Fault) String() string {
	out := fmt.Sprintf("%s %s %s at %s", f.ID, f.Kind, f.Target, f.At)
	if f.For.Duration > 0 {
		out += " for " + f.For.String()
	}
	if f.Rate > 0 && f.Rate < 1 {
		out += fmt.Sprintf(" rate %g", f.Rate)
	}
	for _, name := range sortedKeys(f.With) {
		out += " " + name + "=" + f.With[name]
	}
	return out
}
