package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
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
	medium      *os.File
}

// arguments are those that libvirt's driver comes to (see hypervisor/libvirt, define.go), but for what libvirt needs
// for itself, and with QEMU's own network in the place of the node's.
func (m machine) arguments() []string {
	cpu, khz := cpuModel, 0
	if m.accelerator == accel.TCG {
		cpu += ",rdrand=on"
		khz, _ = accel.TSCKHz()
	}
	return []string{
		"-name", "cloudtwin-bench", "-no-user-config", "-nodefaults", "-display", "none",
		"-machine", "pc,usb=off,dump-guest-core=off,memory-backend=pc.ram", "-accel", m.accelerator, "-cpu", cpu,
		"-m", strconv.Itoa(m.memoryMB), "-object", fmt.Sprintf("memory-backend-ram,id=pc.ram,size=%dM", m.memoryMB),
		"-smp", "1", "-rtc", "base=utc", "-boot", "strict=on", "-bios", "/usr/share/qemu/qboot.rom",
		"-kernel", m.image.Kernel, "-initrd", m.image.Initrd,
		"-append", libvirt.KernelCmdline(m.accelerator, khz, m.image.Cmdline),
		"-add-fd", "fd=3,set=1",
		"-blockdev", "driver=file,filename=/dev/fdset/1,node-name=medium,read-only=on",
		"-blockdev", "driver=raw,file=medium,node-name=floppy,read-only=on",
		"-device", "floppy,unit=0,drive=floppy,drive-type=144",
		"-chardev", "stdio,id=console,signal=off", "-device", "isa-serial,chardev=console,index=0",
		"-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random",
		"-netdev", "user,id=net,restrict=on",
		"-device", "virtio-net-pci,netdev=net,mac=02:00:0a:40:00:0a,romfile=",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	}
}

// qemu is a running QEMU. It ends with ctx, and with this process however that ends.
type qemu struct {
	begun   time.Time
	console *os.File
	cmd     *exec.Cmd
	stop    context.CancelFunc
	ended   chan error
	stderr  bytes.Buffer // read it after ended
}

func startQEMU(ctx context.Context, m machine) (*qemu, error) {
	ctx, stop := context.WithCancel(ctx)
	q := &qemu{stop: stop, ended: make(chan error, 1)}
	q.cmd = exec.CommandContext(ctx, emulator, m.arguments()...)
	q.cmd.ExtraFiles = []*os.File{m.medium}
	q.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	q.cmd.Stderr = &q.stderr
	r, w, err := os.Pipe()
	if err != nil {
		stop()
		return nil, fmt.Errorf("make console: %w", err)
	}
	q.console, q.cmd.Stdout = r, w
	started := make(chan error, 1)
	go func() {
		// The death signal comes when the thread ends that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		q.begun = time.Now()
		err := q.cmd.Start()
		_ = w.Close() // QEMU has its own
		started <- err
		if err == nil {
			q.ended <- q.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		stop()
		_ = r.Close()
		return nil, fmt.Errorf("start QEMU: %w", errors.Join(hypervisor.ErrUnavailable, err))
	}
	return q, nil
}

// end ends QEMU and returns what it had to say.
func (q *qemu) end() string {
	q.stop()
	err := <-q.ended
	_ = q.console.Close()
	return strings.TrimSpace(fmt.Sprintf("%v %s", err, q.stderr.String()))
}
