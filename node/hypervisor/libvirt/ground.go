package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// maxFirmware bounds what is read of a firmware, in bytes; qboot has 64 KiB.
const maxFirmware = 16 << 20

// Ground tells what a template depends on besides its machine's shape: accelerator, processor, QEMU's version with its
// package, libvirt's, the firmware, and what this package makes a machine of.
func (d *Driver) Ground(ctx context.Context) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("tell what templates depend on: %w", err) }
	if err := d.canFork(); err != nil {
		return fail(err)
	}
	if err := d.Warm(ctx); err != nil {
		return fail(err)
	}
	g := d.warm.ground
	qemu, err := qemuBuild(ctx, g.emulator)
	if err != nil {
		return fail(err)
	}
	firmware, err := fingerprint(g.firmware)
	if err != nil {
		return fail(err)
	}
	machine, err := machineFingerprint(g)
	if err != nil {
		return fail(err)
	}
	return fmt.Sprintf("%s %s tsc=%dkHz %s; %s; firmware %s; machine %s",
		g.accelerator, g.cpuModel, g.tscKHz, qemu, d.warm.info.Version, firmware, machine), nil
}

// qemuBuild is the first line of what QEMU says of its version: a package's patches can change a state's form, too.
func qemuBuild(ctx context.Context, emulator string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, emulator, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask QEMU's version: %w", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

func fingerprint(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the firmware: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxFirmware)); err != nil {
		return "", fmt.Errorf("read the firmware: %w", err)
	}
	return short(h.Sum(nil)), nil
}

// machineFingerprint is that of a machine's description, so that a template of an earlier version of this package,
// whose machines had other devices, is made again.
func machineFingerprint(g ground) (string, error) {
	text, err := define(g, plan{
		name: "shape", kind: template, ram: "/memory", spec: hypervisor.Spec{
			ID: "shape", Kernel: "/kernel", Initrd: "/initrd", MemoryMB: 64, ConsoleLog: "/log",
			NIC: hypervisor.NIC{MAC: "02:00:00:00:00:01", Socket: "/nic"},
		},
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	return short(sum[:]), nil
}

// short is enough of a hash to tell a handful of things apart.
func short(sum []byte) string { return hex.EncodeToString(sum[:8]) }
