package badinput

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// endTimeout is how long the program may take to find a fault, on a busy machine.
const endTimeout = 2 * time.Minute

// invoke starts the program.
func invoke(alter func(*exec.Cmd), args ...string) *gexec.Session {
	GinkgoHelper()
	cmd := exec.Command(cloud.Binary, args...)
	if alter != nil {
		alter(cmd)
	}
	session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { session.Kill().Wait(endTimeout) })
	return session
}

// expectFault expects the program to end as for a fault of the machine, with these words in this order.
func expectFault(session *gexec.Session, says ...string) {
	GinkgoHelper()
	Eventually(session).WithTimeout(endTimeout).Should(gexec.Exit(3))
	for _, words := range says {
		Expect(session.Err).To(gbytes.Say(words))
	}
	Expect(string(session.Err.Contents())).NotTo(ContainSubstring("goroutine "))
}

// environment sets variables.
func environment(pairs ...string) func(*exec.Cmd) {
	return func(c *exec.Cmd) { c.Env = append(os.Environ(), pairs...) }
}

// stateFolder is a path that is short, since sockets lie in it.
func stateFolder() string {
	GinkgoHelper()
	dir, err := os.MkdirTemp("", "ct")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(os.RemoveAll(dir)).To(Succeed()) })
	return filepath.Join(dir, "s")
}

// up are the arguments of a cloud in a state folder.
func up(state string, flags ...string) []string {
	args := []string{"up", "--state", state, "--api", "127.0.0.1:0"}
	if images := os.Getenv("CLOUDTWIN_IMAGES"); images != "" {
		args = append(args, "--images", images)
	}
	return append(args, flags...)
}

var _ = Describe("The machine's fault", func() {
	It("of no QEMU is told with what to install", Label(twin.NeedsKernel), func() {
		state := stateFolder()
		expectFault(invoke(environment("PATH="+GinkgoT().TempDir()), up(state)...), "QEMU", "qemu-system-x86")
		Expect(state).NotTo(BeADirectory())
	})

	It("of no libvirt is told with what to install", Label(twin.NeedsKernel), func() {
		// The loader takes the first file of the name: this one is no library.
		dir, state := GinkgoT().TempDir(), stateFolder()
		Expect(os.WriteFile(filepath.Join(dir, "libvirt.so.0"), nil, 0o600)).To(Succeed())
		expectFault(invoke(environment("LD_LIBRARY_PATH="+dir), up(state)...), "libvirt", "apt-get install .*libvirt0")
		Expect(state).NotTo(BeADirectory())
	})

	It("of a libvirt daemon that is not there is told", Label(twin.NeedsKernel), func() {
		state := stateFolder()
		expectFault(invoke(nil, up(state, "--hypervisor", "qemu+unix:///system?socket=/nonexistent")...), "connect to qemu",
			"/nonexistent")
		Expect(state).NotTo(BeADirectory())
	})

	It("of a libvirt on another host is told with what to do there", Label(twin.NeedsKernel), func() {
		state := stateFolder()
		session := invoke(nil, up(state, "--hypervisor", "qemu+ssh://root@hv1.example/system")...)
		Eventually(session).WithTimeout(endTimeout).Should(gexec.Exit(2))
		Expect(session.Err).To(gbytes.Say("--hypervisor .*host hv1.example .*'cloudtwin node' on hv1.example"))
		Expect(state).NotTo(BeADirectory())
	})

	DescribeTable("of a busy port is told with the port", func(flag string) {
		busy, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(busy.Close)
		state := stateFolder()
		expectFault(invoke(nil, up(state, "--no-node", flag, busy.Addr().String())...), busy.Addr().String(),
			"choose another address")
		Expect(state).NotTo(BeADirectory())
	},
		Entry("of the API", "--api"),
		Entry("for nodes", "--node-api"),
	)

	It("of an address that the machine has not is told", func() {
		expectFault(invoke(nil, up(stateFolder(), "--no-node", "--api", "192.0.2.1:80")...), "192.0.2.1:80",
			"choose another")
	})

	DescribeTable("of no kernel is told with what else to do", func(says string, env []string, args ...string) {
		dir := GinkgoT().TempDir()
		images := filepath.Join(dir, "images")
		agent := filepath.Join(dir, "agent")
		Expect(os.WriteFile(agent, staticProgram(), 0o600)).To(Succeed())
		env = append(env, "XDG_CACHE_HOME="+dir)
		expectFault(invoke(environment(env...), append([]string{"image", "build", "--images", images, "--agent", agent},
			args...)...), says)
		Expect(filepath.Glob(filepath.Join(images, "[^.]*"))).To(BeEmpty())
	},
		Entry("no such package", "no-such-package: kernel package is not available.*--kernel", nil, "--package",
			"no-such-package"),
		Entry("no apt", "apt is not available.*--kernel", []string{"PATH=/nonexistent"}),
		Entry("a file that is none", "/etc/passwd.*not a Linux kernel|modules of /etc/passwd", nil, "--kernel", "/etc/passwd",
			"--modules", "/nonexistent"),
	)
})

// staticProgram is as much of a program as an image's agent must be: ELF for this machine without a loader.
func staticProgram() []byte {
	GinkgoHelper()
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64,
		Phentsize: 56, Shentsize: 64}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var b bytes.Buffer
	Expect(binary.Write(&b, binary.LittleEndian, header)).To(Succeed())
	return b.Bytes()
}

var _ = Describe("A state folder", Ordered, func() {
	var (
		whole string // of a cloud and its node that ended
		keyID string // the first account's access key in it
	)
	BeforeAll(func() {
		whole = stateFolder()
		keyID = startAndStop(whole)
	})

	DescribeTable(
		"that is damaged is told of and left as it is",
		func(file string, damage func(path string) error, says ...string) {
			state := stateFolder()
			copyFolder(whole, state)
			Expect(damage(filepath.Join(state, file))).To(Succeed())
			expectFault(invoke(nil, up(state)...), says...)

			By("starting with the file brought back")
			Expect(copyFile(filepath.Join(whole, file), filepath.Join(state, file))).To(Succeed())
			Expect(startAndStop(state)).To(Equal(keyID))
		},
		Entry("database overwritten", "cloud/etcd/member/snap/db", overwrite, "damaged", "move the folder away"),
		Entry("database cut short", "cloud/etcd/member/snap/db", cut, "damaged", "move the folder away"),
		Entry("root key missing", "cloud/root.key", os.Remove, "root.key", "bring the file back"),
		Entry("root key of another cloud", "cloud/root.key", overwrite, "root.key", "bring the right file back"),
		Entry("root key cut short", "cloud/root.key", cut, "root.key", "bring it back"),
		Entry("root key readable to all", "cloud/root.key", func(path string) error { return os.Chmod(path, 0o644) },
			"0644", "chmod 600"),
		Entry("NODECERT overwritten", "node/node.crt", overwrite, "node.crt", "bring .* back from a copy"),
		Entry("NODECERT missing", "node/node.crt", os.Remove, "node-1", "bring .* back from a copy"),
		Entry("NODEPK overwritten", "node/node.key", overwrite, "node.key", "bring .* back from a copy"),
		Entry("NODEPK missing", "node/node.key", os.Remove, "node.key", "bring .* back from a copy"),
	)

	It("is refused to a second node and a second cloud while the first one runs", func() {
		state := stateFolder()
		session := invoke(nil, up(state, "--guests", "sim")...)
		Eventually(session).WithTimeout(endTimeout).Should(gbytes.Say("endpoint"))
		owner := fmt.Sprintf("by process %d", session.Command.Process.Pid)
		expectFault(invoke(nil, "node", "--guests", "sim", "--state", state, "--cloud", "127.0.0.1:1"), state, owner)
		expectFault(invoke(nil, up(state, "--guests", "sim")...), state, owner)
		session.Interrupt()
		Eventually(session).WithTimeout(endTimeout).Should(gexec.Exit(0))
		Expect(state).NotTo(BeADirectory())
	})

	It("is left as it is when the port is busy", func() {
		state := stateFolder()
		copyFolder(whole, state)
		busy, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(busy.Close)
		expectFault(invoke(nil, up(state, "--api", busy.Addr().String())...), "already in use")
		Expect(startAndStop(state)).To(Equal(keyID))
	})
})

// startAndStop runs a cloud in a folder, leaves its state there and returns the first account's access key.
func startAndStop(state string) string {
	GinkgoHelper()
	session := invoke(nil, up(state, "--keep")...)
	Eventually(session).WithTimeout(endTimeout).Should(gbytes.Say("endpoint"))
	keys, err := operator.NewClient(local.Layout(state).OperatorSocket()).Credentials(context.Background())
	Expect(err).NotTo(HaveOccurred())
	session.Interrupt()
	Eventually(session).WithTimeout(endTimeout).Should(gexec.Exit(0))
	return keys.AccessKeyID
}

// copyFolder copies folders and files. What else lies there, sockets, belonged to the process that ended.
func copyFolder(from, to string) {
	GinkgoHelper()
	Expect(filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		name, nameErr := filepath.Rel(from, path)
		switch {
		case errors.Join(err, nameErr) != nil:
			return errors.Join(err, nameErr)
		case entry.IsDir():
			return os.Mkdir(filepath.Join(to, name), 0o700)
		case entry.Type().IsRegular():
			return copyFile(path, filepath.Join(to, name))
		}
		return nil
	})).To(Succeed())
}

// copyFile replaces a file with another one's content, for its owner alone.
func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}

// overwrite keeps a file's length.
func overwrite(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := range content {
		content[i] = byte(i % 251)
	}
	return os.WriteFile(path, content, 0o600)
}

// cut leaves the first half of a file.
func cut(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()/2)
}
