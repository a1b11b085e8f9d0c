package harness

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("Commands in a guest", func() {
	It("print, read, fail, ask and switch it off, in guests with host keys of their own", func() {
		m, other := cloud.Launch("web", ""), cloud.Launch("web", "")
		Expect(m.Run("echo hello")).To(Equal(twin.Output{Stdout: "hello\n"}))
		Expect(m.Run("cat", "one\x00", "two")).To(Equal(twin.Output{Stdout: "one\x00two"}))
		Expect(m.Run("false").Code).To(Equal(1))
		missing := m.Run("nonesuch")
		Expect(missing.Code).To(Equal(127))
		Expect(missing.Stderr).To(ContainSubstring("nonesuch: not found"))
		Expect(m.Run("curl -s http://169.254.169.254/latest/meta-data/instance-id").Stdout).To(Equal(m.ID))
		Expect(m.Run("curl -s http://169.254.169.254/latest/meta-data/public-keys/").Stdout).To(Equal("0=twin"))

		Expect(other.Run("hostname").Stdout).NotTo(Equal(m.Run("hostname").Stdout))
		// Run has compared them with the guests' own.
		Expect(hostKey(other)).NotTo(Equal(hostKey(m)))

		m.Run("poweroff")
		m.WaitForState("terminated")
	})

	It("are a shell's where there are processes", Label(twin.NeedsKernel), func() {
		m := cloud.Launch("web", "")
		Expect(m.Run("cat /proc/uptime | wc -l")).To(Equal(twin.Output{Stdout: "1\n"}))
		Expect(m.Run("cat >/tmp/x && wc -c </tmp/x; echo to stderr >&2; exit 5", "12345")).To(Equal(
			twin.Output{Stdout: "5\n", Stderr: "to stderr\n", Code: 5}))
		Expect(m.Run("kill -9 $$").Code).To(Equal(137))
		Expect(m.Run("curl -s http://127.0.0.1/health | cut -d ' ' -f 2").Stdout).To(Equal(m.ID + "\n"))
		Expect(m.Run("id -un; uname -s").Stdout).To(Equal("root\nLinux\n"))
	})
})

// hostKey is the fingerprint that a guest's console tells.
func hostKey(m *twin.Machine) any {
	GinkgoHelper()
	told := twin.Stages(m.Console(), "ssh")
	Expect(told).To(HaveLen(1))
	return told[0]["fingerprint"]
}
