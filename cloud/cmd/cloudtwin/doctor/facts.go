package doctor

import (
	"time"

	"github.com/cloudtwin/cloudtwin/node"
)

// Facts are what was found out about a machine. An error says that a thing is missing or could not be asked.
type Facts struct {
	Guests     node.GuestMode // for which kind of guests
	Hypervisor string         // the URI of the libvirt daemon that is to run them; empty for none

	QEMU        Fact // its version
	Firmware    Fact // its path
	Libvirt     Fact // its version, once its driver has opened and knows QEMU
	Accelerator Proof
	Images      Fact // what there is
	// KernelPackage is Debian's package from which images are built.
	KernelPackage Fact

	Cores             int
	MemoryMB          uint64
	MemoryAvailableMB uint64
	State, Cache      Folder
	Media             Folder
	MediaInMemory     error // nil when Media lies in memory

	Sockets   []Socket
	OpenFiles uint64 // how many descriptors this process may have
	Loopback  error  // nil when any address of 127.0.0.0/8 can be listened on
	LowPorts  bool   // whether this process may listen on ports below 1024
	Docker    Fact   // its server's version
}

// Fact is a thing that is there, described in a few words, or the reason why it is not.
type Fact struct {
	Value string
	Err   error
}

// Proof is what came of proving the accelerator.
type Proof struct {
	Name   string // "kvm", "tcg"
	Reason string
	Took   time.Duration
	Err    error
}

// Folder is a place for files. FreeMB is what this user may still write.
type Folder struct {
	Path   string
	FreeMB uint64
	Err    error
}

// Socket is the longest path of its kind.
type Socket struct {
	What, Path string
	Most       int // bytes
}
