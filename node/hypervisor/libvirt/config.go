package libvirt

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// Config says where and how machines run. Root is all that the embedded driver needs.
type Config struct {
	// URI is libvirt's: empty for the embedded driver, or one of a daemon on this host that CheckURI takes, for example
	// "qemu:///session".
	URI string
	// Root is the folder of the embedded driver's state: an absolute path of at most MaxRoot bytes, made with mode
	// 0700 when it is missing. One process at a time may use it.
	Root string
	// CacheDir keeps what takes seconds to find out about QEMU and the accelerator, for all roots of this user;
	// default "cloudtwin" in the user's cache folder.
	CacheDir string
	// Emulator is QEMU's binary: a path or a name on the path; default "qemu-system-x86_64".
	Emulator string
	// Firmware starts the guest's kernel; default "/usr/share/qemu/qboot.rom", a minimal one that goes straight to
	// the kernel's PVH entry.
	Firmware string
	// CPUModel is the named model of the guests' processors; default "Westmere": it has AES, and both accelerators
	// offer all of it. RDRAND is added under TCG.
	CPUModel string
	// Prover finds the accelerator; default: KVM is proved and the verdict kept in CacheDir.
	Prover accel.Prover
	// NamePrefix is put before machine ids to make domain names, and keeps the machines of several nodes apart that
	// share a daemon; default "ct-".
	NamePrefix string
	// Logger gets what the driver has to say; default: nothing is logged.
	Logger *slog.Logger
}

// domainRoom is what libvirt puts behind its root to name a machine's monitor socket: the number of the domain, at
// most six digits here, and the first 20 bytes of its name.
const domainRoom = len("/lib/qemu/domain-123456-12345678901234567890/monitor.sock")

// MaxRoot is how long Config.Root may be, in bytes, so that libvirt's sockets below it stay within a unix socket's
// limit.
const MaxRoot = hypervisor.MaxSocketPath - domainRoom

// Validate reports all that is wrong with c at once. It does not look at the disk.
func (c Config) Validate() error {
	var errs []error
	if c.embedded() {
		switch {
		case c.Root == "":
			errs = append(errs, errors.New("config Root is missing: the embedded driver needs a folder for its state"))
		case !filepath.IsAbs(c.Root) || strings.ContainsFunc(c.Root, func(r rune) bool { return r < ' ' || r == '"' }):
			errs = append(errs, fmt.Errorf("config Root %q: want an absolute path without control characters", c.Root))
		case len(filepath.Clean(c.Root)) > MaxRoot:
			errs = append(errs, fmt.Errorf(
				"config Root %s is %d bytes long: libvirt's unix sockets below it need it to be at most %d; "+
					"use a shorter folder, for example one directly under /var/lib or /tmp", c.Root, len(c.Root), MaxRoot))
		}
	} else if err := CheckURI(c.URI); err != nil {
		errs = append(errs, fmt.Errorf("config URI %w", err))
	}
	if c.NamePrefix != "" && !hypervisor.ValidID(c.NamePrefix) {
		errs = append(errs, fmt.Errorf("config NamePrefix %q: want letters, digits and dashes", c.NamePrefix))
	}
	return errors.Join(errs...)
}

func (c Config) embedded() bool { return c.URI == "" }

// CheckURI says what is wrong with the URI of a libvirt daemon: it must be one of libvirt's QEMU driver
// (https://libvirt.org/uri.html), and name no other host than this one. Consoles, media and the sockets of network
// cards are files of the host that QEMU runs on, and the guests' network is made by the process that has this driver:
// it must be there.
func CheckURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "qemu" && !strings.HasPrefix(u.Scheme, "qemu+") {
		return fmt.Errorf("%q: want one of libvirt's QEMU driver, such as qemu:///session", uri)
	}
	if host := u.Hostname(); host != "" && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("%q: libvirt on host %s cannot give its guests a network and their media from here: run "+
			"'cloudtwin node' on %[2]s, which joins this cloud, and leave --hypervisor to it", uri, host)
	}
	return nil
}

func (c Config) uri() string {
	if !c.embedded() {
		return c.URI
	}
	return "qemu:///embed?" + url.Values{"root": {c.Root}}.Encode()
}

func (c Config) withDefaults() (Config, error) {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Emulator, "qemu-system-x86_64")
	def(&c.Firmware, "/usr/share/qemu/qboot.rom")
	def(&c.CPUModel, "Westmere")
	def(&c.NamePrefix, "ct-")
	if c.Root != "" {
		c.Root = filepath.Clean(c.Root)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return c, fmt.Errorf("find the user's cache folder (set CacheDir): %w", err)
		}
		c.CacheDir = filepath.Join(dir, "cloudtwin")
	}
	return c, nil
}
