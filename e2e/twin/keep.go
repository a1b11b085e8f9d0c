package twin

import (
	"fmt"
	"os"

	ginkgo "github.com/onsi/ginkgo/v2"
)

// keepVariable says what a failure leaves running: "cloud" leaves clouds and nodes, "spec" also what the spec
// made, as it was when it failed. 'cloudtwin test --keep' and '--break-on-failure' set it.
const keepVariable = "CLOUDTWIN_KEEP"

// cleanup does something after the spec or suite, unless the spec's failure shall leave everything as it is.
func (t *Twin) cleanup(do func()) {
	ginkgo.DeferCleanup(func() {
		if !t.frozen.Load() {
			do()
		}
	})
}

// noteFailure decides what stays.
func (t *Twin) noteFailure() {
	switch os.Getenv(keepVariable) {
	case "cloud":
		t.kept.Store(true)
	case "spec":
		t.kept.Store(true)
		t.frozen.Store(true)
	default:
		return
	}
	ginkgo.GinkgoWriter.Printf("%s", t.wayIn())
}

// wayIn tells how to get into a twin that stays.
func (t *Twin) wayIn() string {
	text := fmt.Sprintf(`its cloud stays as it is, in %[2]s; to look around and to end it:
  %[1]s ps --state %[2]s
  %[1]s events --state %[2]s
  %[1]s console INSTANCE --state %[2]s
  eval "$(%[1]s env --state %[2]s)"
  %[1]s down --state %[2]s
`, t.Binary, t.StateDir)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		if pid := n.process.running(); pid != 0 {
			text += fmt.Sprintf("  kill %d && %s node --remove --state %s\n", pid, t.Binary, n.state)
		}
	}
	return text
}
