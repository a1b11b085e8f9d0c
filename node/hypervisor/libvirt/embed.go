package libvirt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// claim is the root folder that this process has given to libvirt. libvirt's embedded driver opens one root per
// process and never lets go of it: its machines' monitors stay connected after the last connection is closed. So the
// lock is kept until the process ends, and a second driver in this process may use the same root only.
type claim struct {
	mu   sync.Mutex
	root string
	lock *flock.Flock
	open int // drivers of this process that use the root now
	// conn is kept for the next driver: libvirt registers its own anew each time it is opened, and has room for some
	// twenty.
	conn *libvirt.Connect
	lent bool
}

// connect returns a connection to the embedded libvirt, to be given back by release. Drivers that are open at the same
// time have one each: libvirt follows the same events once a connection.
func (c *claim) connect(uri string) (*libvirt.Connect, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil && !c.lent {
		c.lent = true
		return c.conn, nil
	}
	smallPages()
	conn, err := libvirt.NewConnect(uri)
	if err == nil && c.conn == nil {
		c.conn, c.lent = conn, true
	}
	return conn, err
}

// smallPages has the machines that this process will start take memory in the processor's small pages. QEMU asks for
// huge ones for its translated code, of which an emulated guest leaves parts unused: 2.5 MB of each (measured), and no
// start is faster for them. A kernel that does not know the setting costs no more than that.
func smallPages() { _ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0) }

// release takes a connection back.
func (c *claim) release(conn *libvirt.Connect) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn == c.conn {
		c.lent = false
		return nil
	}
	_, err := conn.Close()
	return err
}

var claimed claim

// take claims root for this process: an error tells who has it.
func (c *claim) take(root string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock != nil {
		if c.root != root {
			return fmt.Errorf("%w: this process runs libvirt in %s already, and libvirt takes one root a process; "+
				"open %s in another process", hypervisor.ErrUnavailable, c.root, root)
		}
		return nil
	}
	path := filepath.Join(root, "lock")
	lock := flock.New(path, flock.SetPermissions(0o600))
	got, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("%w: lock %s: %w", hypervisor.ErrUnavailable, path, err)
	}
	if !got {
		return fmt.Errorf("%w: %s is in use by %s; stop it, or use another folder",
			hypervisor.ErrUnavailable, root, holder(path))
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return errors.Join(fmt.Errorf("%w: write %s: %w", hypervisor.ErrUnavailable, path, err), lock.Unlock())
	}
	c.root, c.lock = root, lock
	return nil
}

// enter counts a driver that has connected, and says whether it is the only one.
func (c *claim) enter() (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	return c.open == 1
}

// leave counts a driver that goes.
func (c *claim) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

// holder describes the process that wrote itself into a lock file.
func holder(path string) string {
	data, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(data))
	if err != nil || pid == "" {
		return "another process"
	}
	name, err := os.ReadFile(filepath.Join("/proc", filepath.Base(pid), "comm"))
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
}

// prepareRoot makes the folder, claims it, and writes the configuration that libvirt reads when it starts.
func prepareRoot(root string) error {
	for _, dir := range []string{root, filepath.Join(root, "etc"), filepath.Join(root, "log")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("%w: make libvirt's folder: %w", hypervisor.ErrUnavailable, err)
		}
	}
	if err := checkOwned(root); err != nil {
		return err
	}
	if err := claimed.take(root); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "qemu.conf"), []byte(qemuConf()), 0o600); err != nil {
		return fmt.Errorf("%w: write libvirt's configuration: %w", hypervisor.ErrUnavailable, err)
	}
	return nil
}

// checkOwned refuses a folder that others could put monitor sockets or configuration into.
func checkOwned(root string) error {
	info, err := os.Stat(root)
	if err != nil {
		return fmt.Errorf("%w: look at %s: %w", hypervisor.ErrUnavailable, root, err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm()&0o022 != 0 || !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s (mode %v) must belong to user %d and be writable for nobody else",
			hypervisor.ErrUnavailable, root, info.Mode().Perm(), os.Geteuid())
	}
	return nil
}

// qemuConf is libvirt's qemu.conf.
func qemuConf() string {
	return fmt.Sprintf(`# Written by cloudtwin at every start.
# QEMU runs as the user of this process, who owns all files of its machines.
user = "+%d"
group = "+%d"
dynamic_ownership = 0
remember_owner = 0
# There is no virtlogd: QEMU writes consoles and its log itself.
stdio_handler = "file"
# No SELinux or AppArmor policy knows this folder.
security_driver = "none"
# Both need privileges, and a machine of ours has no host device to be kept from.
cgroup_controllers = []
namespaces = []
# Guest memory holds keys and must not get into a core file.
dump_guest_core = 0
# QEMU's system call filter: no new processes, no new privileges.
seccomp_sandbox = 1
`, os.Geteuid(), os.Getegid())
}

// libvirtUser is the account that Debian's libvirt looks up when it starts as root, before it reads its configuration
// and whether or not that names another user.
const libvirtUser = "libvirt-qemu"

// checkAccount explains in advance what libvirt would refuse.
func checkAccount() error {
	if os.Geteuid() != 0 {
		return nil
	}
	_, err := user.Lookup(libvirtUser)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: libvirt started by root wants an account %s: "+
			"run `useradd --system --user-group --no-create-home --shell /usr/sbin/nologin %[2]s`, "+
			"or start as an ordinary user", hypervisor.ErrUnavailable, libvirtUser)
	}
	return nil
}
