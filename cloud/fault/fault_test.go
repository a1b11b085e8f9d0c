package fault_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // in the error; empty: it is read
	}{
		{"none", `{"version":1,"seed":0,"faults":[]}`, ""},
		{"one", `{"version":1,"seed":7,"faults":[{"id":"a","kind":"api.error","target":"Create*","at":"2s","for":"5s",` +
			`"rate":0.5,"with":{"code":"Throttling","status":"400"}}]}`, ""},
		{"selectors", `{"version":1,"faults":[{"id":"a","kind":"wire.loss","target":"lb:web,i-0*,node:n1,image:web,*"}]}`,
			""},
		{"version", `{"version":2,"faults":[]}`, "version 2: want 1"},
		{"unknown field", `{"version":1,"faults":[],"more":1}`, `unknown field "more"`},
		{"trailing", `{"version":1,"faults":[]}{}`, "something follows"},
		{"kind", `{"version":1,"faults":[{"id":"a","kind":"api.eror"}]}`, `kind "api.eror": want one of api.latency`},
		{"id", `{"version":1,"faults":[{"id":"a b","kind":"api.error"}]}`, "id \"a b\""},
		{"twice", `{"version":1,"faults":[{"id":"a","kind":"api.error"},{"id":"a","kind":"api.error"}]}`, "there twice"},
		{"moment", `{"version":1,"faults":[{"id":"a","kind":"guest.kill","for":"1s"}]}`, "is a moment"},
		{"rate", `{"version":1,"faults":[{"id":"a","kind":"api.error","rate":1.5}]}`, "rate 1.5"},
		{"no chance", `{"version":1,"faults":[{"id":"a","kind":"node.freeze","rate":0.5}]}`, "always or not at all"},
		{"negative", `{"version":1,"faults":[{"id":"a","kind":"api.error","at":"-1s"}]}`, "at -1s"},
		{"duration", `{"version":1,"faults":[{"id":"a","kind":"api.error","at":5}]}`, "no duration"},
		{"missing", `{"version":1,"faults":[{"id":"a","kind":"medium.read-error"}]}`, "with.sector is missing"},
		{"out of range", `{"version":1,"faults":[{"id":"a","kind":"medium.read-error","with":{"sector":"2880"}}]}`,
			`with.sector "2880": want a whole number from 0 to 2879`},
		{"foreign parameter", `{"version":1,"faults":[{"id":"a","kind":"wire.partition","with":{"code":"x"}}]}`,
			"with.code: wire.partition takes direction"},
		{"store target", `{"version":1,"faults":[{"id":"a","kind":"store.slow","target":"lb:web"}]}`,
			"want *, read or write"},
		{"guest target", `{"version":1,"faults":[{"id":"a","kind":"guest.kill","target":"web"}]}`, "want *, an instance id"},
		{"glob", `{"version":1,"faults":[{"id":"a","kind":"api.error","target":"[x"}]}`, "want a name"},
		{"other selector", `{"version":1,"faults":[{"id":"a","kind":"medium.swap","with":{"with":"web"}}]}`, "with.with"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := fault.Parse([]byte(tt.text))
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want == "":
				again, err := fault.Parse(s.JSON())
				if diff := cmp.Diff(s, again); err != nil || diff != "" {
					t.Errorf("written and read: %v (-want +got):\n%s", err, diff)
				}
			case !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), tt.want):
				t.Errorf("error %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestSelector(t *testing.T) {
	guest := fault.Guest{ID: "i-0a", LoadBalancer: "web", Image: "lbvm", Node: "node-1"}
	backend := fault.Guest{ID: "i-0b", Image: "web", Node: "node-2"}
	tests := []struct {
		target         string
		guest, backend bool
	}{
		{"", true, true}, {"*", true, true}, {"i-0a", true, false}, {"i-0?", true, true}, {"lb:web", true, false},
		{"lb:*", true, false}, {"image:web", false, true}, {"node:node-2", false, true}, {"lb:other,i-0b", false, true},
	}
	for _, tt := range tests {
		f := fault.Fault{ID: "a", Kind: fault.GuestKill, Target: tt.target}
		if a, b := f.Covers(guest), f.Covers(backend); a != tt.guest || b != tt.backend {
			t.Errorf("%q covers the LBVM %v, the backend %v; want %v, %v", tt.target, a, b, tt.guest, tt.backend)
		}
	}
	for role, want := range map[string]string{
		"loadbalancer-vm-123456789012-my-lb": "my-lb", "loadbalancer-vm-123": "", "admin": "", "": "",
	} {
		if got := fault.LoadBalancerOf(role); got != want {
			t.Errorf("role %q is of load balancer %q, want %q", role, got, want)
		}
	}
}

func TestRandom(t *testing.T) {
	kinds := map[fault.Kind]bool{}
	for seed := range uint64(300) {
		o := fault.Options{Length: time.Second, Faults: 8, Guests: []string{"lb:a", "lb:b"}, Nodes: []string{"node-1"}}
		s := fault.Random(seed, o)
		if err := s.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(s, fault.Random(seed, o)); diff != "" {
			t.Fatalf("seed %d gives two schedules:\n%s", seed, diff)
		}
		if cmp.Equal(s.Faults, fault.Random(seed+1, o).Faults) {
			t.Errorf("seeds %d and %d give the same schedule", seed, seed+1)
		}
		for _, f := range s.Faults {
			kinds[f.Kind] = true
			if end := f.At.Duration + f.For.Duration; end > o.Length {
				t.Errorf("seed %d: fault %s ends after %s", seed, f, o.Length)
			}
		}
	}
	if len(kinds) != len(fault.Catalogue()) {
		t.Errorf("%d of %d kinds were drawn", len(kinds), len(fault.Catalogue()))
	}
}

func TestChance(t *testing.T) {
	a := fault.Fault{ID: "a", Kind: fault.APIError, Rate: 0.3}
	b := fault.Fault{ID: "b", Kind: fault.APIError, Rate: 0.3}
	draw := func(f fault.Fault, seed uint64) (out []bool, hits int) {
		for chance := f.Chance(seed); len(out) < 1000; {
			happens := f.Happens(chance)
			out = append(out, happens)
			if happens {
				hits++
			}
		}
		return out, hits
	}
	first, hits := draw(a, 7)
	if again, _ := draw(a, 7); !slices.Equal(first, again) {
		t.Error("the same fault and seed draw differently")
	}
	if other, _ := draw(b, 7); slices.Equal(first, other) {
		t.Error("another fault draws the same")
	}
	if hits < 230 || hits > 370 {
		t.Errorf("%d of 1000 happen at a rate of 0.3", hits)
	}
}

func TestShrink(t *testing.T) {
	s := fault.Random(3, fault.Options{Faults: 40})
	tests := []struct {
		name  string
		needs []int // all of these must be there
	}{
		{"one", []int{17}}, {"two far apart", []int{2, 38}}, {"three", []int{0, 20, 39}}, {"none", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			for _, i := range tt.needs {
				want = append(want, s.Faults[i].ID)
			}
			runs := 0
			got, err := fault.Shrink(t.Context(), s, func(_ context.Context, s fault.Schedule) (bool, error) {
				runs++
				for _, id := range want {
					if !slices.ContainsFunc(s.Faults, func(f fault.Fault) bool { return f.ID == id }) {
						return false, nil
					}
				}
				return true, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, f := range got.Faults {
				ids = append(ids, f.ID)
				if f.For.Duration > 100*time.Millisecond {
					t.Errorf("%s still lasts %s", f.ID, f.For)
				}
			}
			if diff := cmp.Diff(want, ids); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if runs > 150 {
				t.Errorf("%d runs", runs)
			}
		})
	}
}

func TestShrinkEndsEarly(t *testing.T) {
	s, broken := fault.Random(3, fault.Options{Faults: 8}), errors.New("no memory")
	runs := 0
	got, err := fault.Shrink(t.Context(), s, func(context.Context, fault.Schedule) (bool, error) {
		if runs++; runs > 1 {
			return false, broken
		}
		return true, nil
	})
	if !errors.Is(err, broken) || len(got.Faults) != 4 {
		t.Errorf("%d faults left, error %v; want the half that is known to fail", len(got.Faults), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fault.Random(1, fault.Options{Faults: 30}).JSON())
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Memory(t, len(data), func() {
			s, err := fault.Parse(data)
			if err != nil {
				return
			}
			if again, err := fault.Parse(s.JSON()); err != nil || !bytes.Equal(s.JSON(), again.JSON()) {
				t.Errorf("read %v, %v after writing %s", again, err, s.JSON())
			}
		})
	})
}
