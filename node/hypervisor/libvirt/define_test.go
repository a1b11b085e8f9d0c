package libvirt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

func goodSpec() hypervisor.Spec {
	return hypervisor.Spec{
		ID: "i-1", Kernel: "/images/<k>&", Initrd: "/images/i", Cmdline: `own="a, b"`, MemoryMB: 96,
		ConsoleLog: "/log/c", NIC: hypervisor.NIC{MAC: "02:00:0a:40:00:05", Socket: "/net/a,b=c"},
	}
}

func parse(t *testing.T, text string) libvirtxml.Domain {
	t.Helper()
	var d libvirtxml.Domain
	if err := d.Unmarshal(text); err != nil {
		t.Fatalf("the XML cannot be read back: %v\n%s", err, text)
	}
	return d
}

func TestDefine(t *testing.T) {
	g := ground{accelerator: accel.TCG, emulator: "/bin/qemu", firmware: "/fw", cpuModel: "Westmere", tscKHz: 2000000}
	for _, tc := range []struct {
		name  string
		g     ground
		edit  func(*hypervisor.Spec)
		check func(t *testing.T, d libvirtxml.Domain, text string)
	}{
		{"tcg", g, func(*hypervisor.Spec) {}, func(t *testing.T, d libvirtxml.Domain, _ string) {
			got := []any{d.Type, d.Name, d.Memory.Value, d.Memory.DumpCore, d.VCPU.Value, d.OS.Kernel, d.OnReboot, d.OnCrash}
			want := []any{"qemu", "ct-i-1", uint(96), "off", uint(1), "/images/<k>&", "destroy", "destroy"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if !strings.HasSuffix(d.OS.Cmdline, ` tsc_early_khz=2000000 own="a, b"`) {
				t.Errorf("the machine's own options are not last: %s", d.OS.Cmdline)
			}
		}},
		{"kvm", ground{accelerator: accel.KVM, cpuModel: "Westmere"}, func(s *hypervisor.Spec) { s.VCPUs = 2 },
			func(t *testing.T, d libvirtxml.Domain, _ string) {
				if d.Type != "kvm" || d.VCPU.Value != 2 || strings.Contains(d.OS.Cmdline, "mitigations=off") {
					t.Errorf("type %s, %d processors, %s", d.Type, d.VCPU.Value, d.OS.Cmdline)
				}
			}},
		{"network arguments are JSON, so that no path can add an option", g, func(*hypervisor.Spec) {},
			func(t *testing.T, d libvirtxml.Domain, _ string) {
				var args []string
				for _, a := range d.QEMUCommandline.Args {
					args = append(args, a.Value)
				}
				want := []string{
					"-netdev", `{"addr":{"path":"/net/a,b=c","type":"unix"},"id":"net0","server":true,"type":"stream"}`,
					"-device", `{"driver":"virtio-net-pci","guest_announce":false,"id":"nic0","mac":"02:00:0a:40:00:05",` +
						`"netdev":"net0","romfile":""}`,
				}
				if diff := cmp.Diff(want, args); diff != "" {
					t.Error(diff)
				}
			}},
		{"no network", g, func(s *hypervisor.Spec) { s.NIC = hypervisor.NIC{} },
			func(t *testing.T, d libvirtxml.Domain, _ string) {
				if len(d.QEMUCommandline.Args) > 0 {
					t.Errorf("a machine without network has arguments %v", d.QEMUCommandline.Args)
				}
			}},
		{"a small heap", g, func(*hypervisor.Spec) {},
			func(t *testing.T, d libvirtxml.Domain, _ string) {
				for _, e := range d.QEMUCommandline.Envs {
					if e.Name == "MALLOC_ARENA_MAX" && e.Value == "1" {
						return
					}
				}
				t.Errorf("QEMU's environment is %v: each of its threads gets a heap", d.QEMUCommandline.Envs)
			}},
		{"nothing that was not asked for", g, func(*hypervisor.Spec) {},
			func(t *testing.T, d libvirtxml.Domain, text string) {
				if len(d.Devices.Videos) > 0 || d.Devices.MemBalloon.Model != "none" || d.Devices.Controllers[0].Model != "none" {
					t.Errorf("it has more devices than it needs:\n%s", text)
				}
			}},
		{"display", g, func(s *hypervisor.Spec) { s.Display = true },
			func(t *testing.T, d libvirtxml.Domain, _ string) {
				if len(d.Devices.Videos) != 1 || d.Devices.Videos[0].Model.Type != "vga" {
					t.Errorf("displays: %v", d.Devices.Videos)
				}
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := goodSpec()
			tc.edit(&spec)
			text, err := define(tc.g, plan{name: "ct-i-1", spec: spec})
			if err != nil {
				t.Fatal(err)
			}
			tc.check(t, parse(t, text), text)
		})
	}
}

func TestNotesComeBack(t *testing.T) {
	spec := goodSpec()
	spec.Medium, spec.Display, spec.ConsoleLog = "/m", true, `/log/"<&>'`
	text, err := define(ground{}, plan{name: "ct-i-1", spec: spec, from: 42, kind: fork})
	if err != nil {
		t.Fatal(err)
	}
	got, medium, ok := readNotes(text)
	got.XMLName.Local, got.XMLName.Space = "", ""
	want := notes{ID: "i-1", Console: `/log/"<&>'`, From: 42, Socket: "/net/a,b=c", Display: true, Kind: fork}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Error(diff, ok)
	}
	if medium != "/m" {
		t.Errorf("the drive has %q", medium)
	}
	if d := parse(t, text); d.Devices.Disks[0].ReadOnly == nil {
		t.Error("a guest can write its medium")
	}
}

func TestForeignDomainsHaveNoNotes(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"no metadata", "<domain><name>ct-x</name></domain>"},
		{"other metadata", `<domain><metadata><a:b xmlns:a="urn:other" id="x"/></metadata></domain>`},
		{"no XML", "x"},
		{"empty", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if n, _, ok := readNotes(tc.text); ok {
				t.Errorf("read %+v", n)
			}
		})
	}
}

func FuzzReadNotes(f *testing.F) {
	text, err := define(ground{}, plan{name: "ct-i-1", spec: goodSpec(), from: 7})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(`<domain><metadata><machine xmlns="` + metadataURI + `"/></metadata></domain>`)
	f.Fuzz(func(t *testing.T, text string) {
		if n, _, ok := readNotes(text); ok && n.XMLName.Space != metadataURI {
			t.Errorf("foreign notes accepted: %+v", n)
		}
	})
}
