package libvirt

import (
	"encoding/xml"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// Names inside a domain.
const (
	metadataURI  = "https://github.com/cloudtwin/cloudtwin/machine/1"
	metadataKey  = "machine" // the prefix that libvirt writes the metadata with
	floppyTarget = "fda"
)

// notes are what the driver has to know of a machine besides libvirt's own state; they live in the domain's metadata,
// so that another process finds them.
type notes struct {
	XMLName xml.Name `xml:"https://github.com/cloudtwin/cloudtwin/machine/1 machine"`
	// ID is the machine's.
	ID string `xml:"id,attr"`
	// Console is the console log; the machine's bytes begin at From.
	Console string `xml:"console,attr"`
	From    int64  `xml:"from,attr"`
	// Socket is the network's, removed with the machine.
	Socket string `xml:"socket,attr,omitempty"`
	// Display says that there is something to take a screenshot of.
	Display bool `xml:"display,attr,omitempty"`
	// Kind tells machines apart that did not boot by themselves.
	Kind kind `xml:"kind,attr,omitempty"`
}

// kind is how a machine comes to run.
type kind string

const (
	cold     kind = ""         // it boots
	template kind = "template" // it boots, to be copied
	fork     kind = "fork"     // it is a copy of a template; found paused, it is half made
	pooled   kind = "pooled"   // it is a copy that nobody has taken yet, and no machine
)

// ground is what all machines of a driver have in common.
type ground struct {
	accelerator string
	emulator    string
	firmware    string
	cpuModel    string
	tscKHz      int
}

// lasts says whether a machine of this kind is worth keeping when its process has ended.
func (k kind) lasts() bool { return k == cold || k == fork }

// plan is a machine on its way into a domain.
type plan struct {
	name string // the domain's
	spec hypervisor.Spec
	kind kind
	from int64  // how many bytes the console log has already
	ram  string // the file of a template's memory, for a template and its copies
}

func (p plan) notes() notes {
	return notes{
		ID: p.spec.ID, Console: p.spec.ConsoleLog, From: p.from, Socket: p.spec.NIC.Socket,
		Display: p.spec.Display, Kind: p.kind,
	}
}

// define returns the domain XML of a machine. The domain is persistent: libvirt keeps its definition on disk, so that
// a machine that ended while no process was there is still known as stopped, and its id stays taken until it is
// killed.
func define(g ground, p plan) (string, error) {
	spec := p.spec
	meta, err := xml.Marshal(p.notes())
	if err != nil {
		return "", fmt.Errorf("write the machine's metadata: %w", err)
	}
	port := uint(0)
	memory, vcpus := uint(spec.MemoryMB), uint(max(spec.VCPUs, 1))
	d := libvirtxml.Domain{
		Type:     domainType(g.accelerator),
		Name:     p.name,
		Metadata: &libvirtxml.DomainMetadata{XML: string(meta)},
		// dumpCore=off: the guest's memory holds keys.
		Memory: &libvirtxml.DomainMemory{Value: memory, Unit: "MiB", DumpCore: "off"},
		VCPU:   &libvirtxml.DomainVCPU{Value: vcpus},
		OS: &libvirtxml.DomainOS{
			// pc and not q35: the i440fx machine has the floppy controller, and fewer buses to probe.
			Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc", Type: "hvm"},
			// qboot does next to nothing and enters the kernel by PVH: no SeaBIOS, no decompression.
			Loader:  &libvirtxml.DomainLoader{Path: g.firmware, Readonly: "yes", Type: "rom"},
			Kernel:  spec.Kernel,
			Initrd:  spec.Initrd,
			Cmdline: kernelCmdline(g, spec),
		},
		Features: features(g, p.kind),
		CPU:      processor(g),
		Clock:    &libvirtxml.DomainClock{Offset: "utc"},
		// However a guest ends, the machine has ended: whoever wants it again starts a new one.
		OnPoweroff: "destroy", OnReboot: "destroy", OnCrash: "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Emulator: g.emulator,
			Disks:    []libvirtxml.DomainDisk{floppy(spec.Medium)},
			Serials: []libvirtxml.DomainSerial{{
				Source: &libvirtxml.DomainChardevSource{
					File: &libvirtxml.DomainChardevSourceFile{Path: spec.ConsoleLog, Append: "on"},
				},
				Target: &libvirtxml.DomainSerialTarget{Port: &port},
			}},
			// Fresh randomness for keys, from the host's generator.
			RNGs: []libvirtxml.DomainRNG{{
				Model:   "virtio",
				Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
			}},
			// libvirt adds both by default, and the guest's kernel would spend time on them.
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
		},
		// The floppy's type is said instead of probed: a guest reads its first medium 0.2 s sooner.
		QEMUOverride: &libvirtxml.DomainQEMUOverride{Devices: []libvirtxml.DomainQEMUOverrideDevice{{
			Alias: "fdc0-0-0",
			Frontend: libvirtxml.DomainQEMUOverrideFrontend{Properties: []libvirtxml.DomainQEMUOverrideProperty{
				{Name: "drive-type", Type: "string", Value: "144"},
			}},
		}}},
	}
	if spec.Display {
		d.Devices.Videos = []libvirtxml.DomainVideo{{
			Model: libvirtxml.DomainVideoModel{Type: "vga", VRam: 4 << 10, Heads: 1, Primary: "yes", // 4 MiB
				// 80 columns and 30 lines of text; the guest's driver takes what the display says that it likes.
				Resolution: &libvirtxml.DomainVideoResolution{X: 640, Y: 480}},
		}}
	}
	if err := addArguments(&d, p); err != nil {
		return "", err
	}
	text, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the domain XML: %w", err)
	}
	return text, nil
}

func domainType(accelerator string) string {
	if accelerator == accel.KVM {
		return "kvm"
	}
	return "qemu"
}

// tbCache is how much translated code QEMU keeps, in MiB; it would take up to 1 GiB. A boot fills 55: 64 cost it
// nothing, 16 a third more. A copy runs less code, one that has rehearsed somewhat more.
func tbCache(k kind) uint {
	switch k {
	case fork:
		return 26
	case pooled:
		return 40
	default:
		return 64
	}
}

func features(g ground, k kind) *libvirtxml.DomainFeatureList {
	list := &libvirtxml.DomainFeatureList{
		ACPI: &libvirtxml.DomainFeature{}, // the power button, and power off itself
	}
	if g.accelerator == accel.TCG {
		list.TCG = &libvirtxml.DomainFeatureTCG{
			TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: tbCache(k)},
		}
	}
	return list
}

// processor is a named model, never the host's: machines are the same on every host. check=none leaves it to QEMU to
// drop a feature that the host lacks; libvirt would refuse the machine.
func processor(g ground) *libvirtxml.DomainCPU {
	cpu := &libvirtxml.DomainCPU{
		Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: g.cpuModel},
	}
	if g.accelerator == accel.TCG {
		cpu.Features = []libvirtxml.DomainCPUFeature{{Policy: "require", Name: "rdrand"}} // see random.trust_cpu
	} else {
		cpu.Features = []libvirtxml.DomainCPUFeature{{Policy: "optional", Name: "rdrand"}}
	}
	return cpu
}

// floppy returns the drive with the medium at path, or empty. A guest reads its medium and never writes it.
func floppy(path string) libvirtxml.DomainDisk {
	disk := libvirtxml.DomainDisk{
		Device:   "floppy",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"}, // never probed: the content is a user's
		Target:   &libvirtxml.DomainDiskTarget{Dev: floppyTarget, Bus: "fdc"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
	}
	return disk
}

// view is what the driver reads of a domain's XML.
type view struct {
	Notes *notes `xml:"metadata>machine"`
	Disks []struct {
		Target struct {
			Dev string `xml:"dev,attr"`
		} `xml:"target"`
		Source struct {
			File string `xml:"file,attr"`
		} `xml:"source"`
	} `xml:"devices>disk"`
}

// readNotes finds the notes in a domain's XML, and the medium in its drive; ok is false for a domain that is not ours.
func readNotes(domainXML string) (n notes, medium string, ok bool) {
	var v view
	if err := xml.Unmarshal([]byte(domainXML), &v); err != nil || v.Notes == nil {
		return notes{}, "", false
	}
	for _, disk := range v.Disks {
		if disk.Target.Dev == floppyTarget {
			medium = disk.Source.File
		}
	}
	return *v.Notes, medium, true
}
