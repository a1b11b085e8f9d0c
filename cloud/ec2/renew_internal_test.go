package ec2

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestDueQueue(t *testing.T) {
	var r renewals
	r.init()
	begin := time.Unix(1_700_000_000, 0)
	for _, n := range rand.Perm(100) {
		r.set(fmt.Sprintf("i-%02d", n), begin.Add(time.Duration(n)*time.Second))
	}
	r.set("i-07", begin.Add(time.Hour)) // later
	r.set("i-90", begin)                // sooner
	r.set("i-03", time.Time{})          // never
	r.set("i-none", time.Time{})        // never was
	var got []string
	for _, item := range r.due(begin.Add(5 * time.Second)) {
		got = append(got, item.id)
	}
	if want := []string{"i-00", "i-90", "i-01", "i-02", "i-04", "i-05"}; !slices.Equal(got, want) {
		t.Errorf("due %v, want %v", got, want)
	}
	if len(r.queue) != 93 || len(r.byID) != 93 || r.due(begin.Add(5*time.Second)) != nil {
		t.Errorf("%d and %d are left, want 93", len(r.queue), len(r.byID))
	}
}

func TestRenewalBackoff(t *testing.T) {
	for _, tt := range []struct {
		life        time.Duration
		first, most time.Duration
	}{
		{365 * 24 * time.Hour, time.Minute, time.Hour},
		{24 * time.Hour, time.Minute, 36 * time.Minute},
		{30 * time.Second, 200 * time.Millisecond, time.Second},
	} {
		t.Run(tt.life.String(), func(t *testing.T) {
			id := &Identity{Life: tt.life}
			if got := id.backoff(1); got != tt.first {
				t.Errorf("after the first failure %s, want %s", got, tt.first)
			}
			if got := id.backoff(1000); got != tt.most {
				t.Errorf("at most %s, want %s", got, tt.most)
			}
			for n := range 40 {
				if a, b := id.backoff(n+1), id.backoff(n+2); a > b || a <= 0 {
					t.Fatalf("pauses %s and %s after %d failures", a, b, n+1)
				}
			}
		})
	}
}

// BenchmarkNote is what an instance's change costs the renewals of 20,000.
func BenchmarkNote(b *testing.B) {
	var r renewals
	r.init()
	begin := time.Unix(1_700_000_000, 0)
	ids := make([]string, 20_000)
	for n := range ids {
		ids[n] = fmt.Sprintf("i-%05d", n)
		r.set(ids[n], begin.Add(time.Duration(n)*time.Second))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.set(ids[n%len(ids)], begin.Add(time.Duration(n*7919%len(ids))*time.Second))
		r.due(begin.Add(-time.Second))
		n++
	}
}
