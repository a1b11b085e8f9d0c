package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

func TestConfigValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		want []string // what the error names; none means valid
	}{
		{"embedded", Config{Root: "/var/lib/ct"}, nil},
		{"longest root", Config{Root: "/" + strings.Repeat("r", MaxRoot-1)}, nil},
		{"daemon", Config{URI: "qemu:///system"}, nil},
		{"daemon of this user", Config{URI: "qemu+unix:///session?socket=/run/s"}, nil},
		{"daemon by this host's name", Config{URI: "qemu+tcp://localhost:16509/system"}, nil},
		{"daemon by this host's address", Config{URI: "qemu+tls://[::1]/system"}, nil},
		{"daemon of another host", Config{URI: "qemu+tls://host.example/system"},
			[]string{"host.example", "'cloudtwin node' on host.example"}},
		{"daemon of another host, by SSH", Config{URI: "qemu+ssh://root@192.0.2.7:22/system"},
			[]string{"host 192.0.2.7", "'cloudtwin node'"}},
		{"no URI", Config{URI: "::"}, []string{"qemu:///session"}},
		{"a word that begins alike", Config{URI: "qemux:///system"}, []string{"qemu:///session"}},
		{"no root", Config{}, []string{"Root is missing"}},
		{"relative root", Config{Root: "x"}, []string{"absolute"}},
		{"root too long", Config{Root: "/" + strings.Repeat("r", MaxRoot)},
			[]string{strings.Repeat("r", MaxRoot), "at most 50"}},
		{"another hypervisor", Config{URI: "xen:///"}, []string{"URI"}},
		{"all at once", Config{NamePrefix: "a/b"}, []string{"Root", "NamePrefix"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.cfg.Validate()
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %q", err, want)
				}
			}
		})
	}
}

func TestURI(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"embedded", Config{Root: "/a b/&c"}, "qemu:///embed?root=%2Fa+b%2F%26c"},
		{"system", Config{URI: "qemu:///system"}, "qemu:///system"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.cfg.uri(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestHostsThatCannotRunMachines(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "qemu")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	short := func() string {
		root, err := os.MkdirTemp("/tmp", "ct")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(root) })
		return root
	}
	mode := func(root string, bits os.FileMode) string {
		if err := os.Chmod(root, bits); err != nil {
			t.Fatal(err)
		}
		return root
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no QEMU", Config{Root: short(), Emulator: "/nonexistent/qemu"}, "apt-get install qemu-system-x86"},
		{"no firmware", Config{Root: short(), Emulator: program, Firmware: dir + "/none.rom"}, "qemu-system-data"},
		{"a root for everybody", Config{Root: mode(short(), 0o777), Emulator: program, Firmware: program},
			"writable for nobody else"},
		{"a root that is a file", Config{Root: program, Emulator: program, Firmware: program}, "folder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if len(tc.cfg.Root) > MaxRoot {
				tc.cfg.Root = filepath.Join(short(), "file")
				if err := os.WriteFile(tc.cfg.Root, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d, err := Open(t.Context(), tc.cfg)
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), d.Close()))
			}
			if !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want ErrUnavailable that says %q", err, tc.want)
			}
		})
	}
}
