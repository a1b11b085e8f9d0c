package guest

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The floppy controller's I/O ports.
const (
	firstPort = 0x3f0
	portCount = 8
)

// openPorts lets the calling thread, and the processes and threads that it starts from then on, use the floppy
// controller. No other port is opened.
func openPorts() error {
	if err := unix.Ioperm(firstPort, portCount, 1); err != nil {
		return fmt.Errorf("open the floppy controller's ports: %w", err)
	}
	return nil
}

// machinePorts are the processor's, for those that openPorts has opened.
type machinePorts struct{}

func (machinePorts) in(port uint16) byte         { return inb(port) }
func (machinePorts) out(port uint16, value byte) { outb(port, value) }

// fill is one instruction for all bytes, which a hypervisor carries out with few exits.
func (machinePorts) fill(port uint16, b []byte) {
	insb(port, unsafe.SliceData(b), len(b)) //nolint:gosec // G103: the instruction takes an address and a count
}

//go:noescape
func inb(port uint16) byte

//go:noescape
func outb(port uint16, value byte)

//go:noescape
func insb(port uint16, p *byte, n int)
