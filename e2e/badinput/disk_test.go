package badinput

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// disk is a small file system in memory at dir, which only the program that is started on it sees.
type disk struct {
	dir string
	mib int
}

// newDisk makes a mount point. It skips the spec, and so fails the run, where mounting is not allowed.
func newDisk(mib int) disk {
	GinkgoHelper()
	if out, err := exec.Command("unshare", mountFlags("true")...).CombinedOutput(); err != nil {
		Skip(fmt.Sprintf("a full disk cannot be shown: 'unshare %s' says %s; it needs root, or user namespaces "+
			"(sysctl kernel.unprivileged_userns_clone=1)", strings.Join(mountFlags("true"), " "), out))
	}
	dir, err := os.MkdirTemp("", "ct")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(os.RemoveAll(dir)).To(Succeed()) })
	return disk{dir: dir, mib: mib}
}

// mountFlags are unshare's arguments for a program that may mount: root may, and everybody in a user namespace.
func mountFlags(program ...string) []string {
	if os.Geteuid() == 0 {
		return append([]string{"--mount"}, program...)
	}
	return append([]string{"--mount", "--user", "--map-root-user"}, program...)
}

// hold is for invoke: it has the program see the disk.
func (d disk) hold(c *exec.Cmd) {
	mount := fmt.Sprintf(`mount -t tmpfs -o size=%dm,mode=700 full %s && exec "$@"`, d.mib, d.dir)
	args := mountFlags(append([]string{"sh", "-c", mount, "sh", c.Path}, c.Args[1:]...)...)
	path, err := exec.LookPath("unshare")
	Expect(err).NotTo(HaveOccurred())
	c.Path, c.Args = path, append([]string{"unshare"}, args...)
}

// fill takes space on the disk of a running program and returns what gives it back.
func (d disk) fill(pid, mib int) (free func() error) {
	GinkgoHelper()
	path := filepath.Join("/proc", fmt.Sprint(pid), "root", d.dir, "filler")
	f, err := os.Create(path)
	Expect(err).NotTo(HaveOccurred())
	Expect(syscall.Fallocate(int(f.Fd()), 0, 0, int64(mib)<<20)).To(Succeed())
	Expect(f.Close()).To(Succeed())
	return func() error { return os.Remove(path) }
}

// consoleRoom is what fillUp leaves: enough for what a guest says, and too little for a template's state.
const consoleRoom = 32 << 10

// fillUp takes nearly all the space that is left on the disk of a running program.
func (d disk) fillUp(pid int) {
	GinkgoHelper()
	path := filepath.Join("/proc", fmt.Sprint(pid), "root", d.dir, "filler")
	f, err := os.Create(path)
	Expect(err).NotTo(HaveOccurred())
	defer f.Close()
	block, took := make([]byte, consoleRoom), int64(0)
	for err == nil {
		var n int
		n, err = f.Write(block)
		took += int64(n)
	}
	Expect(err).To(MatchError(syscall.ENOSPC))
	Expect(f.Truncate(took - consoleRoom)).To(Succeed())
}

var _ = Describe("A full disk", Label("mount"), func() {
	It("is told by a cloud that cannot start", func() {
		small := newDisk(20)
		expectFault(invoke(small.hold, up(filepath.Join(small.dir, "s"), "--no-node")...), "no space left", small.dir,
			"free some disk space")
	})

	It("is told by a cloud that runs, which goes on", func() {
		small := newDisk(256)
		state := filepath.Join(small.dir, "s")
		session := invoke(small.hold, up(state, "--no-node")...)
		Eventually(session).WithTimeout(endTimeout).Should(gbytes.Say("endpoint"))
		pid := session.Command.Process.Pid
		socket := local.Layout(filepath.Join("/proc", fmt.Sprint(pid), "root", state)).OperatorSocket()
		client := clientOf(operator.NewClient(socket))
		create := func(name string) error {
			_, err := client.CreateUser(context.Background(), &awsiam.CreateUserInput{UserName: aws.String(name)})
			return err
		}
		list := func() int {
			GinkgoHelper()
			out, err := client.ListUsers(context.Background(), &awsiam.ListUsersInput{})
			Expect(err).NotTo(HaveOccurred())
			return len(out.Users)
		}
		Expect(create("before")).To(Succeed())

		free := small.fill(pid, 80)
		Expect(create("never")).To(MatchError(And(ContainSubstring("ServiceUnavailable"),
			ContainSubstring(fmt.Sprint(http.StatusServiceUnavailable)), ContainSubstring("disk is full"))))
		Expect(list()).To(Equal(1))

		By("going on when there is space again")
		Expect(free()).To(Succeed())
		Expect(create("after")).To(Succeed())
		Expect(list()).To(Equal(2))
		session.Interrupt()
		Eventually(session).WithTimeout(endTimeout).Should(gexec.Exit(0))
	})

	It("with no room for a template is told, and guests are booted without one", Label("slow"), func() {
		small, evidence := newDisk(40), GinkgoT().TempDir()
		args := []string{"demo", "--guests", "fork", "--state", stateFolder(), "--evidence", evidence,
			"--templates", filepath.Join(small.dir, "templates")}
		if images := os.Getenv("CLOUDTWIN_IMAGES"); images != "" {
			args = append(args, "--images", images)
		}
		session := invoke(small.hold, args...)
		Eventually(session).WithTimeout(3 * endTimeout).Should(gexec.Exit(0))
		journal, err := os.ReadFile(filepath.Join(evidence, "journal.jsonl"))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(journal)).To(And(ContainSubstring("fork-failed"), ContainSubstring("no space for a template"),
			ContainSubstring(`"guests":"cold"`)))
	})

	It("that fills up while a template is saved is told, and guests are booted without one", Label("slow"), func() {
		// Room for the memory of one template and what the node wants to be left beside it, and nothing of that is left when
		// the template's guest runs.
		small, evidence := newDisk(96+64+8), GinkgoT().TempDir()
		templates := filepath.Join(small.dir, "templates")
		args := []string{"demo", "--guests", "fork", "--state", stateFolder(), "--evidence", evidence,
			"--templates", templates}
		if images := os.Getenv("CLOUDTWIN_IMAGES"); images != "" {
			args = append(args, "--images", images)
		}
		session := invoke(small.hold, args...)
		pid := session.Command.Process.Pid
		seen := filepath.Join("/proc", fmt.Sprint(pid), "root", templates)
		Eventually(func() ([]string, error) { return filepath.Glob(filepath.Join(seen, ".*", "memory")) }).
			WithTimeout(endTimeout).WithPolling(10*time.Millisecond).ShouldNot(BeEmpty(), "a template is being made")
		small.fillUp(pid)
		Eventually(session).WithTimeout(3 * endTimeout).Should(gexec.Exit(0))
		journal, err := os.ReadFile(filepath.Join(evidence, "journal.jsonl"))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(journal)).To(And(ContainSubstring("fork-failed"), ContainSubstring("no space left on device"),
			ContainSubstring(`"guests":"cold"`), Not(ContainSubstring(`"guests":"fork"`))))
		Expect(filepath.Glob(filepath.Join(templates, "*", "state"))).To(BeEmpty(), "half a template")
	})

	It("is told by the building of images", func() {
		// The kernel package as 'cloudtwin image build' unpacked it.
		kernels, err := filepath.Glob(filepath.Join(local.Cache(), "kernels", "package-*"))
		Expect(err).NotTo(HaveOccurred())
		Expect(kernels).NotTo(BeEmpty(), "run 'cloudtwin image build' first")
		agent := filepath.Join(GinkgoT().TempDir(), "agent")
		Expect(os.WriteFile(agent, staticProgram(), 0o600)).To(Succeed())
		small, images := newDisk(1), filepath.Join(GinkgoT().TempDir(), "images")
		onDisk := func(c *exec.Cmd) {
			environment("XDG_CACHE_HOME=" + small.dir)(c)
			small.hold(c)
		}
		expectFault(invoke(onDisk, "image", "build", "--images", images, "--agent", agent,
			"--kernel", filepath.Join(kernels[0], "vmlinuz"), "--modules", filepath.Join(kernels[0], "modules")),
			"no space left", "free some")
		Expect(filepath.Glob(filepath.Join(images, "[^.]*"))).To(BeEmpty())
	})
})

// clientOf returns a client of another cloud than the suite's, that asks once.
func clientOf(door *operator.Client) *awsiam.Client {
	GinkgoHelper()
	ctx := context.Background()
	status, err := door.Status(ctx)
	Expect(err).NotTo(HaveOccurred())
	keys, err := door.Credentials(ctx)
	Expect(err).NotTo(HaveOccurred())
	config := cloud.As(keys.AccessKeyID, keys.SecretAccessKey, "")
	config.BaseEndpoint = aws.String(status.Endpoint)
	return awsiam.NewFromConfig(config)
}
