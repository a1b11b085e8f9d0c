package hypervisor

import (
	"strings"
	"testing"
)

func TestSpecValidate(t *testing.T) {
	good := Spec{
		ID: "i-0123456789abcdef0", Kernel: "/k", Initrd: "/i", MemoryMB: 96, ConsoleLog: "/c",
		NIC: NIC{MAC: "02:00:0a:40:00:05", Socket: "/run/s"},
	}
	for _, tc := range []struct {
		name string
		edit func(*Spec)
		want []string // what the error must name; none means valid
	}{
		{"good", func(*Spec) {}, nil},
		{"no network", func(s *Spec) { s.NIC = NIC{} }, nil},
		{"most", func(s *Spec) { s.MemoryMB, s.VCPUs = 65536, 64; s.ID = strings.Repeat("a", 64) }, nil},
		{"nothing", func(s *Spec) { *s = Spec{} }, []string{"ID", "Kernel", "Initrd", "ConsoleLog", "MemoryMB"}},
		{"id with a slash", func(s *Spec) { s.ID = "../x" }, []string{"ID"}},
		{"id starts with a dash", func(s *Spec) { s.ID = "-x" }, []string{"ID"}},
		{"id too long", func(s *Spec) { s.ID = strings.Repeat("a", 65) }, []string{"ID"}},
		{"relative paths", func(s *Spec) { s.Kernel, s.Medium = "k", "m" }, []string{"Kernel", "Medium"}},
		{"control character in a path", func(s *Spec) { s.Initrd = "/a\nb" }, []string{"Initrd"}},
		{"two lines of options", func(s *Spec) { s.Cmdline = "a\nb" }, []string{"Cmdline"}},
		{"options too long", func(s *Spec) { s.Cmdline = strings.Repeat("a", 1537) }, []string{"Cmdline"}},
		{"too little memory", func(s *Spec) { s.MemoryMB = 63 }, []string{"MemoryMB"}},
		{"too much memory", func(s *Spec) { s.MemoryMB = 65537 }, []string{"MemoryMB"}},
		{"too many cpus", func(s *Spec) { s.VCPUs = 65 }, []string{"VCPUs"}},
		{"multicast mac", func(s *Spec) { s.NIC.MAC = "03:00:00:00:00:01" }, []string{"NIC.MAC"}},
		{"mac without socket", func(s *Spec) { s.NIC.Socket = "" }, []string{"NIC.Socket"}},
		{"socket without mac", func(s *Spec) { s.NIC.MAC = "" }, []string{"NIC.MAC"}},
		{"socket path of 107", func(s *Spec) { s.NIC.Socket = "/" + strings.Repeat("a", 106) }, nil},
		{"socket path of 108", func(s *Spec) { s.NIC.Socket = "/" + strings.Repeat("a", 107) }, []string{"NIC.Socket"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := good
			tc.edit(&spec)
			err := spec.Validate()
			if len(tc.want) == 0 {
				if err != nil {
					t.Fatalf("valid spec refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("bad spec accepted")
			}
			if got := len(strings.Split(err.Error(), "\n")); got != len(tc.want) {
				t.Errorf("%d problems reported, want %d: %v", got, len(tc.want), err)
			}
			for _, field := range tc.want {
				if !strings.Contains(err.Error(), field) {
					t.Errorf("error does not name %s: %v", field, err)
				}
			}
		})
	}
}
