package twin

import (
	"syscall"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
)

// KillCloud ends the cloud's process with SIGKILL. Its state stays.
func (t *Twin) KillCloud() {
	ginkgo.GinkgoHelper()
	gomega.Expect(t.cloud.signal(syscall.SIGKILL)).To(gomega.Succeed())
	gomega.Eventually(t.cloud.done).WithTimeout(startTimeout).Should(gomega.BeClosed(), "the cloud's end")
}

// RestartCloud starts the cloud again after KillCloud and makes the clients anew: it listens elsewhere than before. A
// node that was started before it does not find it; start a twin without one.
func (t *Twin) RestartCloud() {
	ginkgo.GinkgoHelper()
	t.runCloud()
}

func (t *Twin) runCloud() {
	ginkgo.GinkgoHelper()
	command := []string{"up", "--no-node", "--api", "127.0.0.1:0", "--state", t.StateDir}
	t.cloud = t.run("cloud", nil, append(command, t.cloudFlags...)...)
	t.waitForCloud()
	t.connect()
}
