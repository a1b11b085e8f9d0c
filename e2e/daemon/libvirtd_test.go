package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
)

// daemonTime bounds the daemon's start and end on a busy machine.
const daemonTime = 30 * time.Second

// libvirtDaemon is a libvirt daemon in a folder, as a user's session has one.
type libvirtDaemon struct {
	dir, config, run, program string
	session                   *gexec.Session
}

// newDaemon makes the folder of a daemon, which ends with the suite.
func newDaemon(dir string) *libvirtDaemon {
	GinkgoHelper()
	program, err := exec.LookPath("libvirtd")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/libvirtd") // not on every user's path
	}
	Expect(err).NotTo(HaveOccurred(), "a libvirt daemon is needed; on Debian: apt-get install libvirt-daemon")
	config, run := filepath.Join(dir, "c"), filepath.Join(dir, "r")
	for _, folder := range []string{filepath.Join(config, "libvirt"), run} {
		Expect(os.MkdirAll(folder, 0o700)).To(Succeed())
	}
	// QEMU writes consoles itself: there is no virtlogd. No security driver knows the suite's folders.
	write(filepath.Join(config, "libvirt", "qemu.conf"), "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n")
	// The machine's own is asked for with a program that many have not.
	write(filepath.Join(dir, "libvirtd.conf"), fmt.Sprintf("host_uuid = \"5e7b2f0c-6d0e-4c55-9c0b-0f5c3a1d2b4e\"\n"+
		"log_outputs = \"3:file:%s\"\n", filepath.Join(dir, "log")))
	d := &libvirtDaemon{dir: dir, config: config, run: run, program: program}
	DeferCleanup(func() {
		if d.session != nil {
			d.session.Terminate().Wait(daemonTime)
		}
	})
	return d
}

func (d *libvirtDaemon) socket() string { return filepath.Join(d.run, "libvirt", "libvirt-sock") }

func (d *libvirtDaemon) uri() string { return "qemu+unix:///session?socket=" + d.socket() }

// start runs the daemon, again after kill, and returns when it answers.
func (d *libvirtDaemon) start() {
	GinkgoHelper()
	cmd := exec.Command(d.program, "--config", filepath.Join(d.dir, "libvirtd.conf"),
		"--pid-file", filepath.Join(d.dir, "pid"))
	cmd.Env = append(os.Environ(), "HOME="+d.dir, "XDG_CONFIG_HOME="+d.config, "XDG_RUNTIME_DIR="+d.run,
		"XDG_CACHE_HOME="+filepath.Join(d.dir, "k"))
	asUser(cmd)
	session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	d.session = session
	Eventually(func() error {
		if code := session.ExitCode(); code >= 0 {
			log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			StopTrying(fmt.Sprintf("it ended with code %d: %s", code, log)).Now()
		}
		conn, err := net.Dial("unix", d.socket())
		if err != nil {
			return err
		}
		return conn.Close()
	}).WithTimeout(daemonTime).Should(Succeed(), "the libvirt daemon's start")
}

// kill ends the daemon as a crash does. Its guests go on.
func (d *libvirtDaemon) kill() {
	GinkgoHelper()
	d.session.Kill().Wait(daemonTime)
}

// definitions are the files of the domains that the daemon has on its disk, running or not, whose names begin so.
func (d *libvirtDaemon) definitions(prefix string) ([]string, error) {
	return filepath.Glob(filepath.Join(d.config, "libvirt", "qemu", prefix+"*.xml"))
}

// asUser has a program that root starts take itself for an ordinary user: a daemon of root's is the machine's, which
// has its folders in /etc, /run and /var/lib. The files that it opens are root's as before.
func asUser(c *exec.Cmd) {
	GinkgoHelper()
	if os.Geteuid() != 0 {
		return
	}
	unshare, err := exec.LookPath("unshare")
	Expect(err).NotTo(HaveOccurred())
	const somebody = "1000"
	c.Args = slices.Concat([]string{unshare, "--user", "--map-user=" + somebody, "--map-group=" + somebody, c.Path},
		c.Args[1:])
	c.Path = unshare
}

func write(path, text string) {
	GinkgoHelper()
	Expect(os.WriteFile(path, []byte(text), 0o600)).To(Succeed())
}
