package libvirt

import (
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// packages is what a Debian host needs.
const packages = "qemu-system-x86 libvirt0 libvirt-daemon-driver-qemu"

// errClosed is what methods answer after Close.
var errClosed = errors.New("the driver is closed")

// unavailable wraps an error that says that this host cannot run machines.
func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w; on Debian: apt-get install %s", hypervisor.ErrUnavailable, doing, plain(err), packages)
}

// plain takes libvirt's numbers off its message, which says all that an operator can use.
func plain(err error) error {
	var done plainError
	if errors.As(err, &done) {
		return err // with what was said about it since
	}
	var v libvirt.Error
	if errors.As(err, &v) {
		return plainError{err: v}
	}
	return err
}

// plainError is a libvirt error that prints its message only.
type plainError struct{ err libvirt.Error }

func (e plainError) Error() string { return strings.TrimSpace(e.err.Message) }

// Unwrap keeps errors.As working for libvirt's own type.
func (e plainError) Unwrap() error { return e.err }

// is says whether err carries one of libvirt's codes.
func is(err error, codes ...libvirt.ErrorNumber) bool {
	var v libvirt.Error
	if !errors.As(err, &v) {
		return false
	}
	for _, code := range codes {
		if v.Code == code {
			return true
		}
	}
	return false
}

// hostAtFault says that a start failed for a reason that lies in the host, not in the machine's description.
func hostAtFault(err error) bool {
	text := strings.ToLower(err.Error())
	for _, sign := range []string{
		"cannot allocate memory", "no space left on device", "too many open files", "cannot execute binary",
		"resource temporarily unavailable", "could not access kvm kernel module", "failed to initialize kvm",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return is(err, libvirt.ERR_NO_MEMORY, libvirt.ERR_NO_CONNECT, libvirt.ERR_SYSTEM_ERROR)
}
