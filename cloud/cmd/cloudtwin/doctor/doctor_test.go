package doctor

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/node"
)

var errGone = errors.New("it is not there")

// healthy is a machine that has everything.
func healthy() Facts {
	return Facts{
		Guests: node.GuestsFork, QEMU: Fact{Value: "7.2"}, Firmware: Fact{Value: "/rom"}, Libvirt: Fact{Value: "libvirt 9"},
		Accelerator: Proof{Name: "kvm", Reason: "a guest ran"}, Images: Fact{Value: "lbvm, web"},
		KernelPackage: Fact{Value: "linux"}, Cores: 8, MemoryMB: 32000, MemoryAvailableMB: 30000,
		State: Folder{Path: "/state", FreeMB: 10000}, Cache: Folder{Path: "/cache", FreeMB: 10000},
		Media:   Folder{Path: "/dev/shm", FreeMB: 1000},
		Sockets: []Socket{{"one", "/run/s", 107}}, OpenFiles: 1 << 20, LowPorts: true, Docker: Fact{Value: "20.10"},
	}
}

func TestHealthyMachine(t *testing.T) {
	for _, f := range Examine(healthy()) {
		if f.Status != OK || f.Advice != "" || f.Found == "" {
			t.Errorf("%+v, want ok without advice", f)
		}
	}
}

// TestFindings changes one fact at a time and compares what is no longer ok.
func TestFindings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		want   map[string]Status
		says   string // in what was found, or in the advice
	}{
		{"no QEMU", func(f *Facts) { f.QEMU = Fact{Err: errGone} },
			map[string]Status{"qemu": Fail, "libvirt": Warn, "accelerator": Warn}, "apt-get install qemu-system-x86"},
		{"no firmware", func(f *Facts) { f.Firmware = Fact{Err: errGone} },
			map[string]Status{"firmware": Fail, "libvirt": Warn}, "apt-get install qemu-system-data"},
		{"no libvirt", func(f *Facts) { f.Libvirt = Fact{Err: errGone} },
			map[string]Status{"libvirt": Fail}, "libvirt-daemon-driver-qemu"},
		{"emulation", func(f *Facts) { f.Accelerator = Proof{Name: "tcg", Reason: "it hung"} },
			map[string]Status{"accelerator": Warn}, "it hung"},
		{"proof that could not be made", func(f *Facts) { f.Accelerator = Proof{Err: errGone} },
			map[string]Status{"accelerator": Fail}, "it is not there"},
		{"no images", func(f *Facts) { f.Images = Fact{Err: errGone} }, map[string]Status{"images": Fail},
			"cloudtwin image build"},
		{"no kernel package, with images", func(f *Facts) { f.KernelPackage = Fact{Err: errGone} }, nil, "not needed"},
		{"neither package nor images", func(f *Facts) { f.KernelPackage, f.Images = Fact{Err: errGone}, Fact{Err: errGone} },
			map[string]Status{"images": Fail, "kernel package": Fail}, "--kernel"},
		{"little memory", func(f *Facts) { f.MemoryAvailableMB = 1000 }, map[string]Status{"memory": Warn}, "1000 MB"},
		{"little memory for cold guests", func(f *Facts) { f.MemoryAvailableMB, f.Guests = 800, node.GuestsCold },
			map[string]Status{"memory": Fail}, "900 are needed"},
		{"no memory", func(f *Facts) { f.MemoryAvailableMB = 300 }, map[string]Status{"memory": Fail}, "end other programs"},
		{"unknown memory", func(f *Facts) { f.MemoryMB, f.MemoryAvailableMB = 0, 0 }, map[string]Status{"memory": Warn},
			"not known"},
		{"full disk", func(f *Facts) { f.State.FreeMB = 10 }, map[string]Status{"disk of the state": Fail}, "/state"},
		{"full cache", func(f *Facts) { f.Cache.FreeMB = 600 }, map[string]Status{"disk of the cache": Warn}, "/cache"},
		{"closed folder", func(f *Facts) { f.State.Err = errGone }, map[string]Status{"disk of the state": Fail},
			"this user may write to"},
		{"media on a disk", func(f *Facts) { f.MediaInMemory = errGone }, map[string]Status{"memory folder": Fail}, "tmpfs"},
		{"no room for media", func(f *Facts) { f.Media.FreeMB = 1 }, map[string]Status{"memory folder": Fail}, "remount"},
		{"no folder for media", func(f *Facts) { f.Media.Err = errGone }, map[string]Status{"memory folder": Fail},
			"XDG_RUNTIME_DIR"},
		{"long path", func(f *Facts) { f.Sockets[0].Path = strings.Repeat("x", 108) },
			map[string]Status{"socket paths": Fail}, "--state"},
		{"few files", func(f *Facts) { f.OpenFiles = 1024 }, map[string]Status{"open files": Warn}, "ulimit -n"},
		{"no files", func(f *Facts) { f.OpenFiles = 100 }, map[string]Status{"open files": Fail}, "512 are needed"},
		{"no loopback", func(f *Facts) { f.Loopback = errGone }, map[string]Status{"loopback": Fail}, "interface lo"},
		{"high ports only", func(f *Facts) { f.LowPorts = false }, map[string]Status{"low ports": Warn}, "P + 8000"},
		{"no Docker", func(f *Facts) { f.Docker = Fact{Err: errGone} }, nil, "containers: apt-get install docker.io"},
		{"a daemon", func(f *Facts) { f.Hypervisor = "qemu:///session" }, nil, "the daemon at qemu:///session"},
		{"no daemon", func(f *Facts) { f.Hypervisor, f.Libvirt = "qemu:///session", Fact{Err: errGone} },
			map[string]Status{"libvirt": Fail}, "start the daemon"},
		{"simulated guests without QEMU", func(f *Facts) {
			f.Guests, f.QEMU, f.Images = node.GuestsSim, Fact{Err: errGone}, Fact{Err: errGone}
		}, map[string]Status{"qemu": Warn, "images": Warn, "libvirt": Warn, "accelerator": Warn},
			"simulated guests need none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			facts := healthy()
			tt.change(&facts)
			got, said := map[string]Status{}, false
			for _, f := range Examine(facts) {
				said = said || strings.Contains(f.Found+f.Advice, tt.says)
				if f.Status != OK {
					got[f.Check] = f.Status
					if f.Advice == "" {
						t.Errorf("%s is %s and does not say what to do", f.Check, f.Status)
					}
				}
			}
			if want := tt.want; want == nil && len(got) > 0 || want != nil && !cmp.Equal(want, got) {
				t.Errorf("-want +got:\n%s", cmp.Diff(want, got))
			}
			if !said {
				t.Errorf("no line says %q", tt.says)
			}
		})
	}
}

func TestADaemonHasAFolderOfItsOwn(t *testing.T) {
	for uri, want := range map[string]int{"": 3, "qemu:///session": 2} {
		if got := sockets(Config{Hypervisor: uri, Layout: "/s"}); len(got) != want {
			t.Errorf("--hypervisor %q: %d paths are looked at, want %d: %+v", uri, len(got), want, got)
		}
	}
}

func TestFolderThatIsNotThereYet(t *testing.T) {
	got := folder(t.TempDir() + "/a/b")
	if got.Err != nil || got.FreeMB == 0 {
		t.Errorf("%+v, want the free space of the folder above", got)
	}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct{ name, script, value, says string }{
		{"first line", "echo one; echo two", "one", ""},
		{"fault", "echo no such thing >&2; echo more >&2; exit 3", "", "exit status 3: no such thing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t.Context(), "sh", "-c", tt.script)
			if got.Value != tt.value || (got.Err != nil) != (tt.says != "") {
				t.Fatalf("%+v", got)
			}
			if got.Err != nil && !strings.HasSuffix(got.Err.Error(), tt.says) {
				t.Errorf("error %v, want %q", got.Err, tt.says)
			}
		})
	}
	if got := between("QEMU emulator version 7.2.22 (Debian)", "version ", " "); got != "7.2.22" {
		t.Errorf("version %q", got)
	}
}
