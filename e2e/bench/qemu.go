package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
)

// machine is what a bare QEMU is started with.
type machine struct {
	image       builder.Image
	accelerator string
	memoryMB    int
	memory      string // its RAM as QEMU's object; empty means anonymous memory
	words       string // further ones of the kernel's command line
}

// arguments are those that libvirt's driver comes to (see hypervisor/libvirt, define.go), but for what libvirt needs
// for itself, and with QEMU's own network in the place of the node's.
func (m machine) arguments() []string {
	cpu, khz := cpuModel, 0
	if m.accelerator == accel.TCG {
		cpu += ",rdrand=on"
		khz, _ = accel.TSCKHz()
	}
	memory := m.memory
	if memory == "" {
		memory = fmt.Sprintf("memory-backend-ram,id=pc.ram,size=%dM", m.memoryMB)
	}
	return []string{
		"-name", "cloudtwin-bench", "-no-user-config", "-nodefaults", "-display", "none",
		"-machine", "pc,usb=off,dump-guest-core=off,memory-backend=pc.ram", "-accel", m.accelerator, "-cpu", cpu,
		"-m", strconv.Itoa(m.memoryMB), "-object", memory,
		"-smp", "1", "-rtc", "base=utc", "-boot", "strict=on", "-bios", "/usr/share/qemu/qboot.rom",
		"-kernel", m.image.Kernel, "-initrd", m.image.Initrd,
		"-append", libvirt.KernelCmdline(m.accelerator, khz, strings.TrimSpace(m.image.Cmdline+" "+m.words)),
		"-chardev", "stdio,id=console,signal=off", "-device", "isa-serial,chardev=console,index=0",
		"-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random",
		"-netdev", "user,id=net,restrict=on",
		"-device", "virtio-net-pci,netdev=net,mac=02:00:0a:40:00:0a,romfile=",
	}
}

// withMedium are the arguments with the floppy that is QEMU's descriptor 3.
func (m machine) withMedium() []string {
	return append(m.arguments(), "-add-fd", "fd=3,set=1",
		"-blockdev", "driver=file,filename=/dev/fdset/1,node-name=medium,read-only=on",
		"-blockdev", "driver=raw,file=medium,node-name=floppy,read-only=on",
		"-device", "floppy,unit=0,drive=floppy,drive-type=144",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
}

// qemu is a running QEMU. It ends with ctx, and with this process however that ends.
type qemu struct {
	*child
	console *os.File
	stop    context.CancelFunc
	stderr  bytes.Buffer // read it after ended
}

// startQEMU starts QEMU with files as its descriptors from 3 on.
func startQEMU(ctx context.Context, arguments []string, files ...*os.File) (*qemu, error) {
	ctx, stop := context.WithCancel(ctx)
	q := &qemu{stop: stop}
	cmd := exec.CommandContext(ctx, emulator, arguments...)
	cmd.ExtraFiles = files
	cmd.Stderr = &q.stderr
	r, w, err := os.Pipe()
	if err != nil {
		stop()
		return nil, fmt.Errorf("make console: %w", err)
	}
	q.console, cmd.Stdout = r, w
	q.child, err = startChild(cmd, syscall.SIGKILL, func() { _ = w.Close() }) // QEMU has its own
	if err != nil {
		stop()
		_ = r.Close()
		return nil, errors.Join(hypervisor.ErrUnavailable, err)
	}
	return q, nil
}

// wordsTime is how long a QEMU that gives up may take to say why.
const wordsTime = time.Second

// blame returns an error with what QEMU says that ends by itself, and ends one that does not.
func (q *qemu) blame(err error) error {
	timer := time.NewTimer(wordsTime)
	defer timer.Stop()
	select {
	case <-q.ended:
	case <-timer.C:
	}
	return fmt.Errorf("%w: %s", err, q.end())
}

// end ends QEMU and returns what it had to say.
func (q *qemu) end() string {
	q.stop()
	<-q.ended
	_ = q.console.Close() // it may have been closed before
	return strings.TrimSpace(fmt.Sprintf("%v %s", q.err, q.stderr.String()))
}
