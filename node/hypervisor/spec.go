package hypervisor

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
)

// Spec describes a machine. Validate reports all that is wrong with it at once.
type Spec struct {
	ID       string // letters, digits and dashes, at most 64; unique on the node
	Kernel   string // absolute path of an uncompressed vmlinux with a PVH note
	Initrd   string // absolute path of the initramfs
	Cmdline  string // kernel command line, without what the driver adds for console and accelerator
	MemoryMB int    // 64 to 65536
	VCPUs    int    // 1 to 64; 0 means 1
	NIC      NIC    // the zero value means a machine without network
	Medium   string // absolute path of a floppy image to start with, or empty
	// ConsoleLog is where the driver appends the serial console's bytes, mode 0600.
	ConsoleLog string
	// Display gives the machine a small VGA display that Screenshot can read, and its kernel's command line DisplayWord,
	// by which the guest shows its console there too.
	Display bool
}

// NIC is a machine's one network card.
type NIC struct {
	MAC string // unicast, six bytes, colons between them
	// Socket is the unix socket on which the machine listens for the node's virtual network (frames with a
	// 4-byte big-endian length before each). At most 107 bytes, in a folder of mode 0700.
	Socket string
}

// MaxSocketPath is how long the path of a unix socket may be, in bytes: sun_path less its closing zero (unix(7)).
const MaxSocketPath = 107

// maxCmdline leaves room for the driver's own options in Linux's limit of 2048 bytes on x86.
const maxCmdline = 1536

// DisplayWord is the kernel's word for a console on the display.
const DisplayWord = "console=tty0"

const (
	minMemoryMB, maxMemoryMB = 64, 65536
	maxVCPUs                 = 64
	maxIDLength              = 64
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)

// ValidID says whether id can name a machine.
func ValidID(id string) bool { return len(id) <= maxIDLength && idPattern.MatchString(id) }

// Validate reports all that is wrong with the values of s, joined into one error. It does not look at the disk.
func (s Spec) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !ValidID(s.ID) {
		bad("ID %q: want 1 to %d letters, digits and dashes", s.ID, maxIDLength)
	}
	for _, p := range []struct{ field, path string }{
		{"Kernel", s.Kernel}, {"Initrd", s.Initrd}, {"ConsoleLog", s.ConsoleLog},
	} {
		if p.path == "" {
			bad("%s is missing", p.field)
		} else if err := checkPath(p.path); err != nil {
			bad("%s: %w", p.field, err)
		}
	}
	if s.Medium != "" {
		if err := checkPath(s.Medium); err != nil {
			bad("Medium: %w", err)
		}
	}
	if len(s.Cmdline) > maxCmdline || hasControl(s.Cmdline) {
		bad("Cmdline: want at most %d bytes on one line", maxCmdline)
	}
	if s.MemoryMB < minMemoryMB || s.MemoryMB > maxMemoryMB {
		bad("MemoryMB %d: want %d to %d", s.MemoryMB, minMemoryMB, maxMemoryMB)
	}
	if s.VCPUs < 0 || s.VCPUs > maxVCPUs {
		bad("VCPUs %d: want 1 to %d, or 0 for one", s.VCPUs, maxVCPUs)
	}
	if s.NIC != (NIC{}) {
		errs = append(errs, s.NIC.validate()...)
	}
	return errors.Join(errs...)
}

func (n NIC) validate() (errs []error) {
	const multicast = 1 // the lowest bit of a MAC's first byte (IEEE 802)
	if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 || mac[0]&multicast != 0 {
		errs = append(errs, fmt.Errorf("NIC.MAC %q: want a unicast MAC of six bytes", n.MAC))
	}
	if err := checkPath(n.Socket); err != nil {
		errs = append(errs, fmt.Errorf("NIC.Socket: %w", err))
	} else if len(n.Socket) > MaxSocketPath {
		errs = append(errs, fmt.Errorf("NIC.Socket %s: %d bytes, a unix socket's path has at most %d: use a shorter folder",
			n.Socket, len(n.Socket), MaxSocketPath))
	}
	return errs
}

func checkPath(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	if hasControl(path) {
		return fmt.Errorf("%q holds a control character", path)
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
