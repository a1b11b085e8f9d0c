package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/node"
)

func TestFlags(t *testing.T) {
	const secret = "ctn1.0011223344556677.secret"
	guests := func(mode string, pool int, hypervisor string) error {
		_, err := (&guestsFlags{mode: mode, pool: pool}).check(hypervisor)
		return err
	}
	further := func(g guestsFlags) error { _, err := g.check(""); return err }
	const flaky = "../../../fixtures/guests/flaky.json"
	tests := []struct {
		name  string
		err   error
		names string // the flag; empty for one that is right
	}{
		{"displays", further(guestsFlags{mode: "fork", displays: []string{"web"}}), ""},
		{"displays of what is no image", further(guestsFlags{mode: "fork", displays: []string{"vga"}}), "--displays"},
		{"displays of load balancers", further(guestsFlags{mode: "fork", displays: []string{"lbvm"}}), "--displays"},
		{"lifecycle", further(guestsFlags{mode: "sim", lifecycle: flaky, seed: 7}), ""},
		{"lifecycle of real guests", further(guestsFlags{mode: "fork", lifecycle: flaky}), "--sim-lifecycle"},
		{"lifecycle that is not there", further(guestsFlags{mode: "sim", lifecycle: "none.json"}), "--sim-lifecycle"},
		{"lifecycle that is none", further(guestsFlags{mode: "sim", lifecycle: "flags_test.go"}), "--sim-lifecycle"},
		{"seed of nothing", further(guestsFlags{mode: "sim", seed: 7}), "--sim-seed"},
		{"simulated guests", guests("sim", 0, ""), ""},
		{"pool of forks", guests("fork", 4, "qemu:///system"), ""},
		{"guests of no kind", guests("warm", 0, ""), "--guests"},
		{"pool of cold guests", guests("cold", 1, ""), "--pool"},
		{"pool too small", guests("fork", -1, ""), "--pool"},
		{"pool too big", guests("fork", 1000, ""), "--pool"},
		{"simulated guests under libvirt", guests("sim", 0, "qemu:///system"), "--hypervisor"},
		{"address", checkAddress("--api", "127.0.0.1:0"), ""},
		{"address of all", checkAddress("--api", ":4580"), ""},
		{"address without port", checkAddress("--api", "127.0.0.1"), "--api"},
		{"port too high", checkAddress("--node-api", "127.0.0.1:65536"), "--node-api"},
		{"port by name", checkAddress("--api", "127.0.0.1:http"), "--api"},
		{"no hypervisor", checkHypervisor(""), ""},
		{"hypervisor", checkHypervisor("qemu:///session"), ""},
		{"hypervisor of this host", checkHypervisor("qemu+tls://localhost/system"), ""},
		{"hypervisor of another host", checkHypervisor("qemu+tls://host/system"), "--hypervisor"},
		{"hypervisor that is not QEMU", checkHypervisor("xen:///"), "--hypervisor"},
		{"hypervisor that is no URI", checkHypervisor("foo"), "--hypervisor"},
		{"life of identities", checkLBCertLife(24 * time.Hour), ""},
		{"shortest life", checkLBCertLife(30 * time.Second), ""},
		{"longest life", checkLBCertLife(3650 * 24 * time.Hour), ""},
		{"life too short", checkLBCertLife(30*time.Second - 1), "--lbcert-life"},
		{"life too long", checkLBCertLife(3650*24*time.Hour + 1), "--lbcert-life"},
		{"no token", checkToken(""), ""},
		{"token that is none", checkToken(secret), "--token"},
		{"state", checkState("/tmp/state"), ""},
		{"state too long", checkState(local.Layout("/" + strings.Repeat("x", 100))), "--state"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if (tt.err != nil) != (tt.names != "") {
				t.Fatalf("error %v, want one that names %q", tt.err, tt.names)
			}
			if tt.err != nil && (!strings.HasPrefix(tt.err.Error(), tt.names) || strings.Contains(tt.err.Error(), secret)) {
				t.Errorf("error %v does not begin with %s, or shows the secret", tt.err, tt.names)
			}
		})
	}
}

func TestFaultsOfTheMachine(t *testing.T) {
	tests := []struct {
		name string
		err  error
		says string
	}{
		{"busy port", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, "another program"},
		{"foreign address", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)},
			"choose another one"},
		{"full disk", &os.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}, "free some disk space"},
		{"full store", store.ErrFull, "free some disk space"},
		{"damaged store", store.ErrDamaged, "damaged"},
		{"external store gone", store.ErrUnreachable, "cannot be reached"},
		{"root key missing", iam.ErrRootKeyMissing, "root key"},
		{"root key open", iam.ErrRootKeyMode, "root key"},
		{"node without identity", node.ErrIdentity, "cloudtwin node-token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := fmt.Errorf("start: %w", errors.Join(tt.err, nil))
			if code := exitCode(err); code != exitInfrastructure {
				t.Errorf("exit code %d, want %d", code, exitInfrastructure)
			}
			if text := describe(err); !strings.Contains(text, tt.says) {
				t.Errorf("%q does not say %q", text, tt.says)
			}
		})
	}
	if code := exitCode(errors.New("a bug")); code != exitProduct {
		t.Errorf("exit code of anything else is %d, want %d", code, exitProduct)
	}
}
