package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/controller"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
)

// Config says for what a machine is looked over.
type Config struct {
	Guests node.GuestMode
	// Hypervisor is the URI of the libvirt daemon that is to run the guests; empty for libvirt in the node's process.
	Hypervisor string
	Layout     local.Layout // of the cloud that is to run
	Images     string       // folder of guest images
}

// The programs and files that libvirt's driver uses by default.
const (
	emulator = "qemu-system-x86_64"
	firmware = "/usr/share/qemu/qboot.rom"
)

// patience bounds each question to another program. libvirt asks QEMU for seconds the first time.
const patience = 30 * time.Second

// Gather asks the machine. It changes nothing but caches, and takes up to some seconds the first time.
func Gather(ctx context.Context, cfg Config) Facts {
	f := Facts{
		Guests: cfg.Guests, Hypervisor: cfg.Hypervisor, Cores: runtime.NumCPU(),
		Firmware: firmwareFact(), Images: imagesFact(cfg.Images),
		State: folder(string(cfg.Layout)), Cache: folder(local.Cache()), Media: folder(filepath.Dir(cfg.Layout.Media())),
		Sockets: sockets(cfg), OpenFiles: openFiles(), Loopback: listenAnywhere(ctx),
		LowPorts: local.MayBindLowPorts(),
	}
	f.MemoryMB, f.MemoryAvailableMB = memory()
	f.MediaInMemory = controller.CheckMemoryBacked(f.Media.Path)
	var work sync.WaitGroup
	work.Go(func() { f.KernelPackage = kernelPackage(ctx) })
	work.Go(func() { f.Docker = docker(ctx) })
	work.Go(func() {
		f.QEMU = run(ctx, emulator, "--version")
		f.QEMU.Value = between(f.QEMU.Value, "version ", " ")
		if f.QEMU.Err == nil && f.Firmware.Err == nil {
			f.Accelerator = prove(ctx)
			f.Libvirt = libvirtFact(ctx, cfg.Hypervisor)
		}
	})
	work.Wait()
	return f
}

// memory returns zeros where /proc cannot be read.
func memory() (total, available uint64) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, 0
	}
	m, err := proc.Meminfo()
	if err != nil || m.MemTotalBytes == nil || m.MemAvailableBytes == nil {
		return 0, 0
	}
	return *m.MemTotalBytes >> 20, *m.MemAvailableBytes >> 20
}

// run returns the first line that a program prints.
func run(ctx context.Context, program string, args ...string) Fact {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if exit, isExit := errors.AsType[*exec.ExitError](err); isExit {
		words, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		err = fmt.Errorf("%s: %w: %s", program, err, words)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return Fact{Value: line, Err: err}
}

// between cuts the part of text behind from and before to, as far as they are there.
func between(text, from, to string) string {
	if _, after, found := strings.Cut(text, from); found {
		text = after
	}
	text, _, _ = strings.Cut(text, to)
	return text
}

func firmwareFact() Fact {
	_, err := os.Stat(firmware)
	return Fact{Value: firmware, Err: err}
}

func prove(ctx context.Context) Proof {
	path, err := exec.LookPath(emulator)
	if err != nil {
		return Proof{Err: err}
	}
	v, err := accel.Cached{Prover: accel.NewKVM(accel.Config{Emulator: path}), Dir: local.Cache(), Emulator: path}.
		Prove(ctx)
	return Proof{Name: v.Accelerator, Reason: v.Reason, Took: v.Took, Err: err}
}

// libvirtFact opens libvirt's driver as a node would, by its URI or in a folder of its own, and has it ask QEMU.
func libvirtFact(ctx context.Context, uri string) Fact {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := libvirt.Config{URI: uri, CacheDir: local.Cache()}
	if uri == "" {
		root, err := os.MkdirTemp("", "ct")
		if err != nil {
			return Fact{Err: err}
		}
		defer func() { _ = os.RemoveAll(root) }()
		c.Root = root
	}
	driver, err := libvirt.Open(ctx, c)
	if err != nil {
		return Fact{Err: err}
	}
	defer func() { _ = driver.Close() }()
	if err := driver.Warm(ctx); err != nil {
		return Fact{Err: err}
	}
	return Fact{Value: driver.Info().Version}
}

func imagesFact(dir string) Fact {
	var found []string
	for _, flavour := range builder.Flavours() {
		image, err := builder.Load(dir, string(flavour))
		if err != nil {
			return Fact{Err: err}
		}
		found = append(found, fmt.Sprintf("%s (kernel %s)", image.Name, image.Manifest.KernelRelease))
	}
	return Fact{Value: strings.Join(found, ", ") + " in " + dir}
}

func kernelPackage(ctx context.Context) Fact {
	const name = builder.DefaultKernelPackage
	policy := run(ctx, "apt-cache", "show", "--no-all-versions", name)
	if policy.Err != nil {
		return Fact{Err: fmt.Errorf("%s is not to be had: %w", name, policy.Err)}
	}
	return Fact{Value: name + " is to be had"}
}

func docker(ctx context.Context) Fact {
	return run(ctx, "docker", "version", "--format", "{{.Server.Version}}")
}

// folder looks at the file system that a folder is on or would be made on.
func folder(path string) Folder {
	existing := path
	for {
		_, err := os.Stat(existing)
		if err == nil || filepath.Dir(existing) == existing {
			break
		}
		existing = filepath.Dir(existing)
	}
	var st unix.Statfs_t
	err := unix.Statfs(existing, &st)
	if err == nil {
		err = unix.Access(existing, unix.W_OK)
	}
	return Folder{Path: path, FreeMB: st.Bavail * uint64(st.Bsize) >> 20, Err: err}
}

func sockets(cfg Config) []Socket {
	l := cfg.Layout
	list := []Socket{
		{"the operator's", l.OperatorSocket(), hypervisor.MaxSocketPath},
		{"a guest's", filepath.Join(l.Media(), "net", "i-0123456789abcdef0.sock"), hypervisor.MaxSocketPath},
	}
	if cfg.Hypervisor == "" { // a daemon has a folder of its own
		list = append(list, Socket{"libvirt's folder", l.LibvirtRoot(), libvirt.MaxRoot})
	}
	return list
}

// openFiles is the limit that the Go runtime has raised for this process as far as it may (see os, package comment).
func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}

// listenAnywhere tries an address such as load balancers get.
func listenAnywhere(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.100.0.1:0")
	if err != nil {
		return err
	}
	return listener.Close()
}
