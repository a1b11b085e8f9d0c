package twin

import (
	"flag"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/node"
)

func TestGuestsAreChosen(t *testing.T) {
	for _, tt := range []struct {
		name, flag, environment string
		want                    node.GuestMode
		says                    string // in the error
	}{
		{"by nobody", "", "", local.DefaultGuests, ""},
		{"by the environment", "", "cold", node.GuestsCold, ""},
		{"by the flag", "sim", "", node.GuestsSim, ""},
		{"by the flag, against the environment", "sim", "cold", node.GuestsSim, ""},
		{"by a flag that is wrong", "warm", "cold", "", `--guests: "warm": want one of sim, fork, cold`},
		{"by an environment that is wrong", "", "warm", "", local.GuestsVariable + `: "warm"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(local.GuestsVariable, tt.environment)
			got, err := chosenMode(tt.flag)
			if got != tt.want || (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q, %v; want %q, an error with %q", got, err, tt.want, tt.says)
			}
		})
	}
	// Ginkgo hands what follows "--" to the suite, whose flags these are.
	if f := flag.Lookup("guests"); f == nil || !strings.Contains(f.Usage, "cold") {
		t.Errorf("suites have no flag --guests: %+v", f)
	}
}
