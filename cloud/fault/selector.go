package fault

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Guest is what a Selector can ask of a guest.
type Guest struct {
	ID           string // instance id
	LoadBalancer string // whose VM it is; empty for others
	Image        string // its image's name
	Node         string // where it runs
}

// Selector chooses guests. The zero value chooses all.
type Selector struct{ parts []part }

type part struct{ of, glob string }

// ParseSelector reads a selector: parts with commas between them, of which one must fit. A part is * or an instance id,
// lb:NAME, image:NAME or node:ID; each name may hold * and ?. Empty means all.
func ParseSelector(text string) (Selector, error) {
	if text == "" {
		return Selector{}, nil
	}
	var s Selector
	for p := range strings.SplitSeq(text, ",") {
		of, glob, found := strings.Cut(p, ":")
		if !found {
			of, glob = "", p
		}
		switch of {
		case "", "lb", "image", "node":
		default:
			return Selector{}, fmt.Errorf("%q: want *, an instance id, lb:NAME, image:NAME or node:ID", p)
		}
		if of == "" && glob != "*" && !strings.HasPrefix(glob, "i-") {
			return Selector{}, fmt.Errorf("%q: want *, an instance id, lb:NAME, image:NAME or node:ID", p)
		}
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return Selector{}, fmt.Errorf("%q: %w", p, errors.New("want a name, in which * and ? stand for others"))
		}
		s.parts = append(s.parts, part{of, glob})
	}
	return s, nil
}

// Covers says whether the selector chooses a guest.
func (s Selector) Covers(g Guest) bool {
	if len(s.parts) == 0 {
		return true
	}
	for _, p := range s.parts {
		name := map[string]string{"": g.ID, "lb": g.LoadBalancer, "image": g.Image, "node": g.Node}[p.of]
		if ok, _ := path.Match(p.glob, name); ok && (name != "" || p.of == "") {
			return true
		}
	}
	return false
}

// Covers says whether the fault's target chooses a guest.
func (f Fault) Covers(g Guest) bool {
	s, err := ParseSelector(f.Target)
	return err == nil && s.Covers(g)
}

// loadBalancerRole is how the role of a load balancer's VM is named: this, the account's 12 digits, a dash, its name.
const loadBalancerRole = "loadbalancer-vm-"

// LoadBalancerOf tells whose VM an instance is by the name of its role; empty when it is none.
func LoadBalancerOf(roleName string) string {
	const accountDigits = 12
	rest, ok := strings.CutPrefix(roleName, loadBalancerRole)
	if !ok || len(rest) < accountDigits+2 || rest[accountDigits] != '-' {
		return ""
	}
	return rest[accountDigits+1:]
}
