package cloud

import "testing"

func TestStageOfAGuest(t *testing.T) {
	for name, c := range map[string]struct {
		milestones []string
		want       string
	}{
		"a web guest with a key pair":   {[]string{"booted", "network", "serving", "ssh"}, "serving"},
		"one that lets in before":       {[]string{"booted", "ssh"}, "ssh"},
		"one that drops frames":         {[]string{"booted", "frames-dropped"}, "booted"},
		"one that boots anew":           {[]string{"serving", "ssh", "machine-started"}, "machine-started"},
		"one that ends":                 {[]string{"serving", "ssh", "power-off"}, "power-off"},
		"one that has said nothing yet": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			stage := ""
			for _, m := range c.milestones {
				stage = stageAfter(stage, m)
			}
			if stage != c.want {
				t.Errorf("stage %q, want %q", stage, c.want)
			}
		})
	}
}
