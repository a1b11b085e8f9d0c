package libvirt

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// What is true of machines when their process ends without a word.
var _ = Describe("a machine and the process that started it", Label("vm"), func() {
	var (
		t     task
		first *exec.Cmd
		out   *gbytes.Buffer
	)

	BeforeEach(func(ctx context.Context) {
		t = orphan()
		first, out = role(ctx, roleStart, t)
		Eventually(out).WithTimeout(time.Minute).Should(gbytes.Say("started"))
	}, NodeTimeout(2*time.Minute))

	It("go on without each other, and the next process takes over", func(ctx context.Context) {
		By("another process in the meantime")
		second, text := role(ctx, roleLook, t)
		Expect(second.Wait()).NotTo(Succeed())
		Expect(string(text.Contents())).To(And(
			ContainSubstring("process "+strconv.Itoa(first.Process.Pid)), ContainSubstring(t.Config.Root)))

		By("the kill")
		Expect(first.Process.Kill()).To(Succeed())
		_ = first.Wait() // it says that the process was killed
		Expect(processes(t.Config.Root)).To(HaveLen(1), "QEMU goes on")

		By("the next process")
		next, text := role(ctx, roleAdopt, t)
		Expect(next.Wait()).To(Succeed(), "%s", text.Contents())
		Expect(string(text.Contents())).To(ContainSubstring("adopted"))
		Eventually(processes).WithArguments(t.Config.Root).Should(BeEmpty())
		Expect(t.Spec.NIC.Socket).NotTo(BeAnExistingFile())
		Expect(traces(t.Config.Root, t.Spec.ID)).To(BeEmpty())
	}, SpecTimeout(3*time.Minute))

	It("are told apart when both are gone", func(ctx context.Context) {
		qemu := processes(t.Config.Root)
		Expect(qemu).To(HaveLen(1))
		status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(qemu[0]), "status"))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(status)).To(MatchRegexp(`(?m)^THP_enabled:\s0$`), "small pages for its translated code")
		Expect(first.Process.Kill()).To(Succeed())
		_ = first.Wait() // it says that the process was killed
		Expect(syscall.Kill(qemu[0], syscall.SIGKILL)).To(Succeed())
		Eventually(processes).WithArguments(t.Config.Root).Should(BeEmpty())

		next, text := role(ctx, roleLook, t)
		Expect(next.Wait()).To(Succeed(), "%s", text.Contents())
		Expect(string(text.Contents())).To(MatchRegexp(`(?m)^i-orphan (stopped|crashed)$`))
		Expect(t.Spec.NIC.Socket).NotTo(BeAnExistingFile(), "what the killed QEMU left is removed")
		Expect(traces(t.Config.Root, t.Spec.ID)).To(BeEmpty())
	}, SpecTimeout(3*time.Minute))
})

// orphan is a machine in a root of its own. What is left of that root's machines is killed after the spec.
func orphan() task {
	GinkgoHelper()
	dir, err := os.MkdirTemp(work, "p")
	Expect(err).NotTo(HaveOccurred())
	image := make([]byte, 1440<<10)
	copy(image, "adopted\n")
	t := task{
		Config: Config{Root: filepath.Join(dir, "root"), CacheDir: cacheDir()},
		Spec: hypervisor.Spec{
			ID: "i-orphan", Kernel: guest.kernel, Initrd: guest.initrd, MemoryMB: 96,
			NIC:        hypervisor.NIC{MAC: "02:00:0a:40:00:06", Socket: filepath.Join(dir, "s")},
			ConsoleLog: filepath.Join(dir, "console"),
		},
		Medium: filepath.Join(dir, "medium"),
	}
	Expect(os.WriteFile(t.Medium, image, 0o600)).To(Succeed())
	DeferCleanup(func() {
		for _, pid := range processes(t.Config.Root) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return t
}

var _ = Describe("copies of a template and the process that made them", Label("vm"), func() {
	It("leave to the next process what was finished, and nothing else", func(ctx context.Context) {
		t := orphan()
		first, out := role(ctx, roleCopy, t)
		Eventually(out).WithTimeout(2 * time.Minute).Should(gbytes.Say("copied"))
		Expect(processes(t.Config.Root)).To(HaveLen(4), "one each that runs, waits, is half made, and is a template")
		Expect(first.Process.Kill()).To(Succeed())
		_ = first.Wait() // it says that the process was killed

		next, text := role(ctx, roleLook, t)
		Expect(next.Wait()).To(Succeed(), "%s", text.Contents())
		Expect(string(text.Contents())).To(Equal("i-orphan running\nlooked\n"))
		Expect(os.ReadFile(t.Spec.ConsoleLog)).To(ContainSubstring("@conformance medium adopted"))
		Eventually(processes).WithArguments(t.Config.Root).Should(BeEmpty())
		Expect(t.Spec.NIC.Socket).NotTo(BeAnExistingFile())
		Expect(filepath.Glob(t.Spec.NIC.Socket + "-*")).To(BeEmpty())
		for _, name := range []string{"i-orphan", "i-half", "i-unfinished", poolMark} {
			Expect(traces(t.Config.Root, name)).To(BeEmpty())
		}
		Expect(os.ReadDir(filepath.Join(t.Config.Root, "fork"))).To(BeEmpty())
	}, SpecTimeout(4*time.Minute))
})

var _ = Describe("a process", Label("vm"), func() {
	It("has one root, opened as often as it likes", func(ctx context.Context) {
		first, err := Open(ctx, config())
		Expect(err).NotTo(HaveOccurred())
		second, err := Open(ctx, config())
		Expect(err).NotTo(HaveOccurred())
		Expect(first.Close()).To(Succeed())
		Expect(first.Close()).To(Succeed())
		_, err = first.List(ctx)
		Expect(err).To(MatchError(errClosed))
		Expect(second.List(ctx)).To(BeEmpty())
		Expect(second.Close()).To(Succeed())

		other := config()
		other.Root = filepath.Join(work, "other")
		_, err = Open(ctx, other)
		Expect(err).To(MatchError(hypervisor.ErrUnavailable))
		Expect(err).To(MatchError(And(ContainSubstring(config().Root), ContainSubstring(other.Root))))
	})

	It("keeps what it learned of QEMU for the next", func(ctx context.Context) {
		d, err := Open(ctx, config())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(d.Close)
		Expect(d.Warm(ctx)).To(Succeed())
		Expect(filepath.Glob(filepath.Join(cacheDir(), capsInCache, "*.xml"))).NotTo(BeEmpty())
		Expect(d.Info().Version).To(MatchRegexp(`^QEMU \d+\.\d+\.\d+, libvirt \d+\.\d+\.\d+$`))
	}, SpecTimeout(time.Minute))
})

// role starts this test binary again.
func role(ctx context.Context, name string, t task) (*exec.Cmd, *gbytes.Buffer) {
	GinkgoHelper()
	text, err := json.Marshal(t)
	Expect(err).NotTo(HaveOccurred())
	cmd := exec.CommandContext(context.WithoutCancel(ctx), os.Args[0])
	cmd.Env = append(os.Environ(), helperRole+"="+name, helperTask+"="+string(text))
	out := gbytes.NewBuffer()
	cmd.Stdout, cmd.Stderr = out, out
	Expect(cmd.Start()).To(Succeed())
	DeferCleanup(func() { _ = cmd.Process.Kill() })
	return cmd, out
}

// processes finds the QEMUs of a folder.
func processes(dir string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(filepath.Base(strings.SplitN(string(text), "\x00", 2)[0]), "qemu-system") {
			continue
		}
		if strings.Contains(string(text), dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// traces finds files below a root that bear a machine's name.
func traces(root, id string) (found []string) {
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(path), id) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		found = append(found, fmt.Sprint(err))
	}
	return found
}
