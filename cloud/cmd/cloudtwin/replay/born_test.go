package replay

import "testing"

// TestBirthsOfGuests compares guests whose cloud was killed, or was late, when it was about to write that they are
// pending.
func TestBirthsOfGuests(t *testing.T) {
	const reason = "Kernel panic"
	states := func(vm string, states ...string) *tape {
		tp := newTape().call("ec2:RunInstances", "", "r-1 "+vm)
		for _, state := range states {
			attributes := []string{"state", state}
			if state == "failed" {
				attributes = append(attributes, "reason", reason)
			}
			tp.add("instance.state", vm, attributes...)
		}
		return tp
	}
	for _, tc := range []struct {
		name               string
		recorded, replayed []string
		left, right        string // of the difference; none when both are empty
	}{
		{"in order", []string{born, "running"}, []string{born, "running"}, "", ""},
		{"late in the recording", []string{"running", born}, []string{born, "running"}, "", ""},
		{"late in the replay", []string{born, "running"}, []string{"running", born}, "", ""},
		{"not told in the recording", []string{"running"}, []string{born, "running"}, "", ""},
		{"not told in the replay", []string{born, "running", "terminated"}, []string{"running", "terminated"}, "", ""},
		{"told on neither side", []string{"shutting-down"}, []string{"shutting-down"}, "", ""},
		{"another end", []string{"running", born}, []string{born, "failed"}, "running", "failed " + reason},
		{"one that was not started", []string{born, "running"}, []string{born}, "running", ""},
		{"one that is not there", []string{born, "running"}, nil, born, ""},
		{"the others in another order", []string{born, "stopping", "running"}, []string{"running", born, "stopping"},
			"stopping", "running"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := func(s *Side) string {
				if s == nil {
					return ""
				}
				return s.Text
			}
			found := states(vm2, tc.replayed...).against(t, states(vm1, tc.recorded...).recording(t))
			switch same := tc.left+tc.right == ""; {
			case same && len(found) > 0:
				t.Errorf("differences %+v", found)
			case same:
			case len(found) != 1 || text(found[0].Recorded) != tc.left || text(found[0].Replayed) != tc.right:
				t.Errorf("differences %+v, want %q and %q", found, tc.left, tc.right)
			}
		})
	}
}
