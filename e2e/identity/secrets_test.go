package identity

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// softHSM is a PKCS#11 token in software, of the Debian package softhsm2.
const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// newToken makes a token of its own for this process and those that it starts, and returns the URI of a key on it that
// is not there yet.
func newToken(ctx context.Context) (uri, pin string) {
	GinkgoHelper()
	Expect(softHSM).To(BeAnExistingFile(), "install it: .ci/deps softhsm2")
	dir := GinkgoT().TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	pin = filepath.Join(dir, "pin")
	Expect(os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"), 0o600)).To(Succeed())
	Expect(os.WriteFile(pin, []byte("471147\n"), 0o600)).To(Succeed())
	GinkgoT().Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.CommandContext(ctx, "softhsm2-util", "--init-token", "--free", "--label", "cloud", "--so-pin",
		"12345678", "--pin", "471147").CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
	return "pkcs11:token=cloud;object=root?module-path=" + softHSM + "&pin-source=file:" + pin, pin
}

var _ = Describe("A root key on a token", Serial, Label(twin.NeedsSim), func() {
	It("seals a cloud's secrets, and no file does", func(ctx context.Context) {
		uri, pin := newToken(ctx)
		make := func() (int, string) {
			code, stdout, stderr := cloud.Command(ctx, "root-key", "create", uri)
			return code, stdout + stderr
		}
		code, said := make()
		Expect(code).To(BeZero(), said)
		code, said = make()
		Expect(code).To(Equal(3), "a second key of the name")
		Expect(said).To(ContainSubstring("there already"))

		own := twin.Start(twin.CloudFlags("--root-key", uri))
		cert := own.Upload(pki.P256, host)
		lb := own.CreateLoadBalancer(own.Backends(1), twin.HTTPS(8443, cert.ARN))
		Eventually(lb.Listener(8443, cert.CA, host)).WithTimeout(own.BootTimeout()).Should(twin.BeServing())
		Expect(filepath.Join(own.StateDir, "cloud", "root.key")).NotTo(BeAnExistingFile())

		By("saying what is wrong, with the exit code of the machine's faults")
		up := func(root string) (int, string) {
			code, _, stderr := own.CommandAt(ctx, filepath.Join(GinkgoT().TempDir(), "s"), "up", "--no-node", "--api",
				"127.0.0.1:0", "--root-key", root, "--guests", "sim")
			return code, stderr
		}
		Expect(os.WriteFile(pin, []byte("000000"), 0o600)).To(Succeed())
		code, said = up(uri)
		Expect(code).To(Equal(3), said)
		Expect(said).To(And(ContainSubstring("PIN is refused"), Not(ContainSubstring("000000"))))
		code, said = up(strings.Replace(uri, softHSM, "/nowhere.so", 1))
		Expect(code).To(Equal(3), said)
		Expect(said).To(ContainSubstring("install the token's library"))
		code, said = up("pkcs11:token=cloud")
		Expect(code).To(Equal(2), said)
		Expect(said).To(And(ContainSubstring("object or id is required"), ContainSubstring("pin-source is required")))
	})
})

// coreLimit returns the soft and the hard limit of a process's core dumps, in bytes.
func coreLimit(pid string) []string {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join("/proc", pid, "limits"))
	Expect(err).NotTo(HaveOccurred())
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.Fields(rest)[:2]
		}
	}
	Fail("no limit of core dumps in " + string(text))
	return nil
}

// noCore is a limit that keeps the kernel from dumping: none to a file for zero, and for one byte none to a program
// either.
var noCore = HaveEach(Or(Equal("0"), Equal("1")))

var _ = Describe("The memory of a process that holds keys", func() {
	It("is not dumped: cloud and node", func(ctx context.Context) {
		status, err := cloud.Operator.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(coreLimit(strconv.Itoa(status.PID))).To(noCore)
		holder, err := os.ReadFile(filepath.Join(cloud.NodeDir(), "lock"))
		Expect(err).NotTo(HaveOccurred())
		Expect(coreLimit(strings.TrimSpace(string(holder)))).To(noCore)
		// The control: this process may.
		Expect(coreLimit("self")).NotTo(BeEmpty())
	})

	It("is not dumped: a guest's", Label("vm", twin.NeedsKernel), func(ctx context.Context) {
		guest := cloud.Backends(1)[0]
		Eventually(cloud.Stage).WithContext(ctx).WithArguments(guest).WithTimeout(cloud.BootTimeout()).
			Should(Equal("serving"))
		Expect(coreLimit(strconv.Itoa(cloud.GuestProcess(guest)))).To(noCore)
		Expect(cloud.GuestProcesses(guest)).To(ConsistOf(ContainSubstring("dump-guest-core=off")))
	})
})
