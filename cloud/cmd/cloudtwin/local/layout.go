// Package local runs a whole twin on this machine: a cloud and, unless told otherwise, a node, in one process and
// one state folder. It also cleans up after a twin whose process was killed.
package local

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
)

// Layout is a state folder's path; its methods name what lies in it.
type Layout string

// OperatorSocket is where the running cloud answers its operator.
func (l Layout) OperatorSocket() string { return filepath.Join(string(l), "operator.sock") }

// Lock is held by the process that uses the folder.
func (l Layout) Lock() string { return filepath.Join(string(l), "lock") }

// Mark is a file that tells a state folder from any other, which is never emptied.
func (l Layout) Mark() string { return filepath.Join(string(l), ".cloudtwin") }

// Cloud is the folder of the control plane: etcd and the root key.
func (l Layout) Cloud() string { return filepath.Join(string(l), "cloud") }

// Node is the folder of the node.
func (l Layout) Node() string { return filepath.Join(string(l), "node") }

// Journal is the file of events.
func (l Layout) Journal() string { return filepath.Join(string(l), "journal.jsonl") }

// Faults is the file that keeps the schedule of faults that is played, or was last.
func (l Layout) Faults() string { return filepath.Join(string(l), "faults.json") }

// CAFile is the certificate that signed the API's.
func (l Layout) CAFile() string { return filepath.Join(string(l), "ca.pem") }

// ClientData is a folder that older AWS clients take the endpoint from (see api.ClientData).
func (l Layout) ClientData() string { return filepath.Join(string(l), "aws-data") }

// Log is where a detached cloud writes what it would print.
func (l Layout) Log() string { return filepath.Join(string(l), "up.log") }

// SimImages is the folder of the images that simulated guests start from.
func (l Layout) SimImages() string { return filepath.Join(string(l), "images") }

// LibvirtRoot is the folder of libvirt's own state. It is below the node's, unless libvirt's sockets in it would get
// longer paths than the system allows.
func (l Layout) LibvirtRoot() string {
	if root := filepath.Join(l.Node(), "lv"); len(root) <= libvirt.MaxRoot {
		return root
	}
	return filepath.Join(os.TempDir(), l.unique())
}

// Media is the memory-backed folder of the floppies that this twin's node writes. It is outside the state folder,
// which may lie on a disk.
func (l Layout) Media() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, l.unique())
	}
	return filepath.Join("/dev/shm", l.unique())
}

// unique is a name for folders elsewhere that belong to this one and this user.
func (l Layout) unique() string {
	sum := sha256.Sum256([]byte(l))
	return "cloudtwin-" + strconv.Itoa(os.Getuid()) + "-" + hex.EncodeToString(sum[:6])
}

// DefaultState is the state folder of `cloudtwin up`. Sockets lie in it, so its path is kept short.
func DefaultState() string { return filepath.Join(base("XDG_STATE_HOME", ".local/state"), "up") }

// DemoState is the state folder of `cloudtwin demo`.
func DemoState() string { return filepath.Join(base("XDG_STATE_HOME", ".local/state"), "demo") }

// DefaultImages is the folder of guest images.
func DefaultImages() string { return filepath.Join(Cache(), "images") }

// Templates is the folder of what forked guests are copies of.
func Templates() string { return filepath.Join(Cache(), "templates") }

// Cache is the folder of what can be made again: kernel packages, images, what libvirt found out about QEMU.
func Cache() string { return base("XDG_CACHE_HOME", ".cache") }

func base(variable, fallback string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cloudtwin")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "cloudtwin-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(home, fallback, "cloudtwin")
}
