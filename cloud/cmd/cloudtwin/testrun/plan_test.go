package testrun

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseShard(t *testing.T) {
	for text, want := range map[string]Shard{
		"": {}, "1/1": {1, 1}, "2/5": {2, 5}, "1000/1000": {1000, 1000},
	} {
		if got, err := ParseShard(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0/3", "4/3", "1", "1/0", "a/b", "-1/2", "1/1001", "1/2/3", " 1/2"} {
		if got, err := ParseShard(text); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v, %v; want a usage error", text, got, err)
		}
	}
}

// TestSplit: every spec is in one shard, units stay whole, the order in which specs come does not matter, and no shard
// takes longer than the mean and the longest unit together.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known := map[Spec]time.Duration{}
		var units []Unit
		for i := range rapid.IntRange(1, 60).Draw(t, "units") {
			var u Unit
			for j := range rapid.IntRange(1, 3).Draw(t, "size") {
				s := Spec{Package: "p", Text: fmt.Sprintf("spec %d %d", i, j)}
				u = append(u, s)
				if rapid.Bool().Draw(t, "known") {
					known[s] = time.Duration(rapid.IntRange(1, 5000).Draw(t, "ms")) * time.Millisecond
				}
			}
			units = append(units, u)
		}
		n := rapid.IntRange(1, 12).Draw(t, "shards")
		parts := Split(units, known, n)
		if len(parts) != n {
			t.Fatalf("%d parts, want %d", len(parts), n)
		}
		at := map[Spec]int{}
		for i, part := range parts {
			for _, s := range part {
				if _, twice := at[s]; twice {
					t.Fatalf("%s is in two shards", s)
				}
				at[s] = i
			}
		}
		usual := median(sorted(flat(units)), known)
		var sum, longest time.Duration
		sums := make([]time.Duration, n)
		for _, u := range units {
			var cost time.Duration
			for _, s := range u {
				shard, ok := at[s]
				if !ok || shard != at[u[0]] {
					t.Fatalf("%s is in no shard, or not in that of its unit", s)
				}
				d := known[s]
				if d == 0 {
					d = usual
				}
				cost += d
			}
			sum, longest = sum+cost, max(longest, cost)
			sums[at[u[0]]] += cost
		}
		if got := slices.Max(sums); got > sum/time.Duration(n)+longest {
			t.Fatalf("the longest shard takes %v of %v, the longest unit %v", got, sum, longest)
		}
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(units), func(i, j int) { units[i], units[j] = units[j], units[i] })
		if a, b := Fingerprint(parts), Fingerprint(Split(units, known, n)); a != b {
			t.Fatalf("in another order the plan is %s, not %s", b, a)
		}
	})
}

func TestRunsNeeded(t *testing.T) {
	for _, c := range []struct{ failures, runs, want int }{
		{0, 10, 0}, {0, 0, 0}, {10, 10, 1}, {1, 2, 5}, {1, 10, 29}, {1, 100, 299}, {3, 40, 39}, {99, 100, 1},
	} {
		if got := RunsNeeded(c.failures, c.runs); got != c.want {
			t.Errorf("%d of %d: %d, want %d", c.failures, c.runs, got, c.want)
		}
	}
}

const today = "2026-11-22"

func TestQuarantine(t *testing.T) {
	now, err := time.Parse(time.DateOnly, today)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(change func(map[string]string)) string {
		e := map[string]string{"pattern": "Luck two", "tracker": "https://example.test/2", "owner": "qa",
			"expires": "2026-12-01"}
		change(e)
		var parts []string
		for name, value := range e {
			parts = append(parts, fmt.Sprintf("%q:%q", name, value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	set := func(name, value string) func(map[string]string) {
		return func(e map[string]string) { e[name] = value }
	}
	good := entry(func(map[string]string) {})
	for _, c := range []struct {
		name, text string
		is         error
		mentions   string
	}{
		{"fine", `{"entries":[` + good + `]}`, nil, ""},
		{"empty", `{"entries":[]}`, nil, ""},
		{"its last day", `{"entries":[` + entry(set("expires", today)) + `]}`, nil, ""},
		{"expired", `{"entries":[` + good + `,` + entry(set("expires", "2026-11-21")) + `]}`, ErrExpired,
			`entry 2, "Luck two"`},
		{"too far away", `{"entries":[` + entry(set("expires", "2027-06-01")) + `]}`, ErrUsage, "more than 90 days"},
		{"no day", `{"entries":[` + entry(set("expires", "soon")) + `]}`, ErrUsage, "expires: expected a day"},
		{"no owner", `{"entries":[` + entry(set("owner", " ")) + `]}`, ErrUsage, "owner: expected"},
		{"no tracker", `{"entries":[` + entry(set("tracker", "later")) + `]}`, ErrUsage, "tracker: expected"},
		{"no pattern", `{"entries":[` + entry(set("pattern", "")) + `]}`, ErrUsage, "pattern: expected"},
		{"bad pattern", `{"entries":[` + entry(set("pattern", "(")) + `]}`, ErrUsage, "entry 1"},
		{"everything", `{"entries":[` + entry(set("pattern", ".*")) + `]}`, ErrUsage, "matches every spec"},
		{"unknown field", `{"entries":[` + entry(set("reason", "x")) + `]}`, ErrUsage, "reason"},
		{"too many", `{"cap":1,"entries":[` + good + `,` + good + `]}`, ErrUsage, "2 entries, more than the 1"},
		{"a higher cap", `{"cap":11,"entries":[]}`, ErrUsage, "cap 11"},
		{"no object", `[]`, ErrUsage, "expected"},
		{"two objects", `{"entries":[]}{}`, ErrUsage, "follows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := parseQuarantine([]byte(c.text), now)
			if !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.mentions) {
				t.Fatalf("got %v; want %v and a mention of %q", err, c.is, c.mentions)
			}
			if c.name == "fine" && (q.Of(Spec{"p", "Luck two"}) == nil || q.Of(Spec{"p", "Luck one"}) != nil) {
				t.Error("it excuses others than it says")
			}
		})
	}
}

func FuzzQuarantine(f *testing.F) {
	f.Add(`{"cap":3,"entries":[{"pattern":"a+","tracker":"https://e.test/1","owner":"o","expires":"2026-12-01"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
		q, err := parseQuarantine([]byte(text), now)
		if err != nil {
			return
		}
		if len(q.Entries) > DefaultQuarantineCap {
			t.Errorf("%d entries", len(q.Entries))
		}
		for _, e := range q.Entries {
			if e.match == nil || e.match.MatchString("") || e.Owner == "" || e.Tracker == "" {
				t.Errorf("entry %+v was let pass", e)
			}
		}
	})
}
