package libvirt

import (
	"encoding/json"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Names of QEMU's objects that libvirt knows nothing of.
const (
	netdevID = "net0"
	ramID    = "ram0"
)

// cpuQuestions is libvirt's name of QEMU's ability to list a processor's missing features. With it libvirt asks for
// each of some 400 features by itself after every start, which takes 0.2 s; without it, for all with two questions.
const cpuQuestions = "cpu-unavailable-features"

// smallHeap has QEMU's C library keep one heap for all threads and give back what is free at its end: 1 to 2 MB less of
// each machine (measured, PSS of six forks that serve). QEMU's threads seldom ask for memory at the same time.
var smallHeap = []libvirtxml.DomainQEMUCommandlineEnv{
	{Name: "MALLOC_ARENA_MAX", Value: "1"},
	{Name: "MALLOC_TRIM_THRESHOLD_", Value: "131072"}, // bytes
	{Name: "MALLOC_TOP_PAD_", Value: "0"},
}

// addArguments adds what libvirt 9.0 has no words for, as arguments of QEMU's own.
func addArguments(d *libvirtxml.Domain, p plan) error {
	var args []string
	if p.spec.NIC != (hypervisor.NIC{}) {
		nic, err := nicArguments(p.spec.NIC)
		if err != nil {
			return err
		}
		args = append(args, nic...)
	}
	if p.ram != "" {
		ram, err := ramArguments(p)
		if err != nil {
			return err
		}
		args = append(args, ram...)
	}
	d.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{Envs: smallHeap}
	for _, value := range args {
		d.QEMUCommandline.Args = append(d.QEMUCommandline.Args, libvirtxml.DomainQEMUCommandlineArg{Value: value})
	}
	d.QEMUCapabilities = &libvirtxml.DomainQEMUCapabilities{
		Del: []libvirtxml.DomainQEMUCapabilitiesEntry{{Name: cpuQuestions}},
	}
	return nil
}

// nicArguments adds the network card: libvirt 9.0 knows no stream netdev.
func nicArguments(nic hypervisor.NIC) ([]string, error) {
	// QEMU listens and the node connects: QEMU's server side takes a new connection after the old one closed, so a
	// node process that was killed and started again gets its guests' network back.
	netdev, err := json.Marshal(map[string]any{
		"type": "stream", "id": netdevID, "server": true,
		"addr": map[string]any{"type": "unix", "path": nic.Socket},
	})
	if err != nil {
		return nil, fmt.Errorf("write the network's arguments: %w", err)
	}
	device, err := json.Marshal(map[string]any{
		"driver": "virtio-net-pci", "netdev": netdevID, "id": "nic0", "mac": nic.MAC,
		// The empty romfile leaves the network boot ROM out, which no guest uses and every firmware would load.
		"romfile": "",
		// A copy would otherwise have its guest announce itself to a network that has never seen it: work for nothing.
		"guest_announce": false,
	})
	if err != nil {
		return nil, fmt.Errorf("write the network card's arguments: %w", err)
	}
	return []string{"-netdev", string(netdev), "-device", string(device)}, nil
}

// ramArguments lay the guest's memory into a file. A template writes the file; its copies map it privately, so that
// the host copies a page when they write to it, and nothing of theirs ever reaches the file.
func ramArguments(p plan) ([]string, error) {
	object, err := json.Marshal(map[string]any{
		"qom-type": "memory-backend-file", "id": ramID, "size": ramBytes(p.spec), "mem-path": p.ram,
		"share": p.kind == template,
		"dump":  false, // it holds keys, which must not get into a core file
	})
	if err != nil {
		return nil, fmt.Errorf("write the memory's arguments: %w", err)
	}
	args := []string{"-object", string(object), "-machine", "memory-backend=" + ramID}
	if p.kind != template {
		args = append(args, "-incoming", "defer") // it waits for the template's state
	}
	return args, nil
}

// ramBytes is how long a machine's memory is.
func ramBytes(spec hypervisor.Spec) int64 { return int64(spec.MemoryMB) << 20 }
