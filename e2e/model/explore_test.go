package model

import (
	"maps"
	"os"
	"slices"
	"testing"
)

// deepVariable makes the exploration take minutes and some gigabytes, for a nightly run.
const deepVariable = "CLOUDTWIN_MODEL_DEEP"

// TestProtocol tries every order of steps in every world and shows that no promise is ever broken.
func TestProtocol(t *testing.T) {
	total := 0
	all := worlds(os.Getenv(deepVariable) != "")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			w := all[name]
			r := w.Explore()
			t.Logf("%d states, %d steps, %d deliveries, %d refusals", r.States, r.Steps, r.Answered, r.Refused)
			if r.Broken != "" {
				t.Errorf("%s:\n%s", r.Broken, r.Story())
			}
			// A world in which nothing is ever delivered, refused or at rest would promise nothing.
			if r.Answered == 0 || r.Refused == 0 || r.Quiet == 0 {
				t.Errorf("the world shows too little: %+v", r)
			}
			total += r.States
		})
	}
	t.Logf("%d states in all", total)
}

// TestEveryRuleMatters switches each check off by itself and shows that the explorer then finds a broken promise.
func TestEveryRuleMatters(t *testing.T) {
	tests := []struct {
		name  string
		rule  Rules
		world string
		want  []Violation
	}{
		{"2 the role as it is now", RuleRole, "strays", []Violation{violatesDelivery}},
		{"3 live and not revoked", RuleRevoked, "races", []Violation{violatesDelivery}},
		{"4 LBCERT of the session's instance", RuleInstance, "strangers", []Violation{violatesAsker}},
		{"5 age", RuleTime, "copies", []Violation{violatesAge}},
		{"6 signature", RuleSignature, "strangers", []Violation{violatesAsker}},
		{"7 seen before", RuleNonce, "copies", []Violation{violatesOnce}},
		{"8 policy", RulePolicy, "races", []Violation{violatesDelivery}},
		{"all facts at one instant", RuleCertain, "races", []Violation{violatesDelivery}},
		{"one task at a time", RuleLock, "concurrent", []Violation{violatesDelivery, violatesGrants, violatesOutlives}},
		{"intent before grant", RuleIntent, "crashes", []Violation{violatesDelivery, violatesGrants}},
		{"put what was only noted down", RuleAgain, "crashes", []Violation{violatesGrants}},
		{"withdraw", RuleWithdraw, "races", []Violation{violatesDelivery, violatesGrants}},
		{"settle", RuleSettle, "one name", []Violation{violatesDelivery, violatesGrants}},
		{"drop the role", RuleDropRole, "races", []Violation{violatesOutlives, violatesDelivery}},
		{"end strays", RuleStrays, "strays", []Violation{violatesOutlives}},
		{"session of its own role only", RuleProfile, "strays", []Violation{violatesDelivery}},
		{"3 the latest LBCERT", RuleLatest, "identities", []Violation{violatesDelivery}},
		{"3 IAMCERT is not retired", RuleRetired, "identities", []Violation{violatesDelivery}},
		{"an IAMCERT stays while it is needed", RuleOverlap, "identities", []Violation{violatesCutOff}},
		{"no success before the role is gone", RuleHonest, "crashes", []Violation{violatesDelivery}},
	}
	covered := Rules(0)
	for _, tt := range tests {
		covered |= tt.rule
		t.Run(tt.name, func(t *testing.T) {
			w := worlds(false)[tt.world]
			w.Rules &^= tt.rule
			r := w.Explore()
			if !slices.Contains(tt.want, r.Broken) {
				t.Errorf("found %q in %d states, want one of %q\n%s", r.Broken, r.States, tt.want, r.Story())
			}
			t.Logf("%s after %d states:\n%s", r.Broken, r.States, r.Story())
		})
	}
	if covered != AllRules() {
		t.Errorf("rules %b are switched off by no test", AllRules()&^covered)
	}
}
