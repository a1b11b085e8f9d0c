package libvirt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

func TestDefineTemplatesAndForks(t *testing.T) {
	object := func(shared string) string {
		return `{"dump":false,"id":"ram0","mem-path":"/t/a,b","qom-type":"memory-backend-file","share":` + shared +
			`,"size":100663296}`
	}
	for _, tc := range []struct {
		name string
		kind kind
		want []string // QEMU's arguments behind those of the network
	}{
		{"a template writes its file", template, []string{"-object", object("true"), "-machine", "memory-backend=ram0"}},
		{"a fork maps it privately, and waits", fork, []string{
			"-object", object("false"), "-machine", "memory-backend=ram0", "-incoming", "defer",
		}},
		{"so does one of the pool", pooled, []string{
			"-object", object("false"), "-machine", "memory-backend=ram0", "-incoming", "defer",
		}},
	} {
		for accelerator, domain := range map[string]string{accel.TCG: "qemu", accel.KVM: "kvm"} {
			t.Run(tc.name+" under "+accelerator, func(t *testing.T) {
				g := ground{accelerator: accelerator, cpuModel: "Westmere"}
				text, err := define(g, plan{name: "ct-i-1", spec: goodSpec(), kind: tc.kind, ram: "/t/a,b"})
				if err != nil {
					t.Fatal(err)
				}
				d := parse(t, text)
				var args []string
				for _, a := range d.QEMUCommandline.Args {
					args = append(args, a.Value)
				}
				const network = 4
				if diff := cmp.Diff(tc.want, args[network:]); diff != "" {
					t.Error(diff)
				}
				if n, _, ok := readNotes(text); !ok || n.Kind != tc.kind {
					t.Errorf("the notes say %q", n.Kind)
				}
				// The cache of translated code is emulation's, and KVM offers RDRAND where the processor has it.
				emulated, rdrand := accelerator == accel.TCG, map[string]string{accel.TCG: "require", accel.KVM: "optional"}
				if d.Type != domain || (d.Features.TCG != nil) != emulated ||
					d.CPU.Features[0].Policy != rdrand[accelerator] {
					t.Errorf("domain type %s, features %+v, processor %+v", d.Type, d.Features, d.CPU)
				}
			})
		}
	}
}

// A template's state fits no machine with other devices.
func TestForksHaveTheirTemplatesDevices(t *testing.T) {
	describe := func(accelerator string, k kind) libvirtxml.Domain {
		spec := goodSpec()
		text, err := define(ground{accelerator: accelerator}, plan{name: "ct-i-1", spec: spec, kind: k, ram: "/t"})
		if err != nil {
			t.Fatal(err)
		}
		d := parse(t, text)
		d.Metadata, d.QEMUCommandline, d.Features.TCG = nil, nil, nil // which other tests are about
		return d
	}
	for _, accelerator := range []string{accel.TCG, accel.KVM} {
		for _, k := range []kind{fork, pooled} {
			if diff := cmp.Diff(describe(accelerator, template), describe(accelerator, k)); diff != "" {
				t.Errorf("%s under %s: %s", k, accelerator, diff)
			}
		}
	}
}

func TestTranslatedCodeIsBounded(t *testing.T) {
	for k, want := range map[kind]uint{cold: 64, template: 64, fork: 26, pooled: 40} {
		text, err := define(ground{accelerator: accel.TCG}, plan{name: "ct-i-1", spec: goodSpec(), kind: k, ram: "/t"})
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, text).Features.TCG.TBCache; got.Size != want || got.Unit != "MiB" {
			t.Errorf("%q: %d %s, want %d MiB", k, got.Size, got.Unit, want)
		}
	}
}

func TestCheckTemplate(t *testing.T) {
	spec := goodSpec()
	spec.MemoryMB = 64
	good := func(t *testing.T) hypervisor.Template {
		dir := t.TempDir()
		f := hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
		if err := errors.Join(makeMemory(f.Memory, ramBytes(spec)),
			os.WriteFile(f.State, append(stateMagic, "and so on"...), 0o600)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if err := checkTemplate(spec, good(t)); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for _, tc := range []struct {
		name   string
		damage func(hypervisor.Template) error
	}{
		{"no memory", func(f hypervisor.Template) error { return os.Remove(f.Memory) }},
		{"short memory", func(f hypervisor.Template) error { return os.Truncate(f.Memory, 1) }},
		{"long memory", func(f hypervisor.Template) error { return os.Truncate(f.Memory, ramBytes(spec)+1) }},
		{"no state", func(f hypervisor.Template) error { return os.Remove(f.State) }},
		{"a state of nothing", func(f hypervisor.Template) error { return os.Truncate(f.State, 0) }},
		{"a state that ends in its head", func(f hypervisor.Template) error { return os.Truncate(f.State, 7) }},
		{"a folder", func(f hypervisor.Template) error { return errors.Join(os.Remove(f.State), os.Mkdir(f.State, 0o700)) }},
		{"another format", func(f hypervisor.Template) error {
			return os.WriteFile(f.State, []byte("QEVM\x00\x00\x00\x04"), 0o600)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := good(t)
			if err := tc.damage(f); err != nil {
				t.Fatal(err)
			}
			if err := checkTemplate(spec, f); !errors.Is(err, hypervisor.ErrTemplate) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMakeMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	const size = 1 << 20
	if err := makeMemory(path, size); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Errorf("made %v, %v", info, err)
	}
	if err := makeMemory(path, size); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another one: %v", err)
	}
	t.Run("no space", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "memory")
		const more = 8 << 40 // bytes: more than any disk here, less than file systems can count
		err := makeMemory(path, more)
		if err == nil {
			t.Skip("this file system promises 8 TiB without having them")
		}
		if err := (&Driver{}).startError(goodSpec(), err); !errors.Is(err, hypervisor.ErrUnavailable) {
			t.Errorf("got %v, want the host at fault", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is left: %v", err)
		}
	})
}

func TestErrorsKeepTheirKind(t *testing.T) {
	cause := libvirt.Error{Code: libvirt.ERR_OPERATION_INVALID, Message: "domain is not running"}
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"libvirt's own", cause, "domain is not running"},
		{"made plain, and told more about", fmt.Errorf("%w: load: %w", hypervisor.ErrTemplate, plain(cause)),
			"template not usable: load: domain is not running"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := plain(plain(tc.err))
			if got.Error() != tc.want || !is(got, libvirt.ERR_OPERATION_INVALID) {
				t.Errorf("got %q", got)
			}
		})
	}
	err := (&Driver{}).startError(goodSpec(), fmt.Errorf("%w: %w", hypervisor.ErrTemplate, plain(cause)))
	var machine *hypervisor.Error
	if !errors.Is(err, hypervisor.ErrTemplate) || errors.As(err, &machine) {
		t.Errorf("got %v, want the template at fault and not the machine", err)
	}
}

func TestMachineFingerprint(t *testing.T) {
	of := func(g ground) string {
		text, err := machineFingerprint(g)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	base := ground{accelerator: accel.TCG, cpuModel: "Westmere", firmware: "/fw", tscKHz: 2_000_000}
	again := base
	if of(again) != of(base) {
		t.Error("the same ground has two fingerprints")
	}
	for _, edit := range []func(*ground){
		func(g *ground) { g.accelerator = accel.KVM }, func(g *ground) { g.cpuModel = "Nehalem" },
		func(g *ground) { g.tscKHz++ },
	} {
		other := base
		edit(&other)
		if of(other) == of(base) {
			t.Errorf("%+v has the fingerprint of %+v", other, base)
		}
	}
}
