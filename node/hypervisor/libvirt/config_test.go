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
		{"remote daemon", Config{URI: "qemu+tls://host.example/system"}, nil},
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
		name   string
		cfg    Config
		want   string
		remote bool
	}{
		{"embedded", Config{Root: "/a b/&c"}, "qemu:///embed?root=%2Fa+b%2F%26c", false},
		{"system", Config{URI: "qemu:///system"}, "qemu:///system", false},
		{"remote", Config{URI: "qemu+tls://h/system"}, "qemu+tls://h/system", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.cfg.uri(); got != tc.want || tc.cfg.remote() != tc.remote {
				t.Errorf("%s, remote %t; want %s, %t", got, tc.cfg.remote(), tc.want, tc.remote)
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
