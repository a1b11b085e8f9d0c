package doctor

import (
	"fmt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// Debian's packages with what guests need.
const (
	installQEMU     = "apt-get install qemu-system-x86"
	installFirmware = "apt-get install qemu-system-data"
	installLibvirt  = "apt-get install libvirt0 libvirt-daemon-driver-qemu"
	installDocker   = "apt-get install docker.io"
)

func checkQEMU(f Facts) verdict {
	if f.QEMU.Err != nil {
		return fail(installQEMU, "not found: %v", f.QEMU.Err)
	}
	return ok("QEMU %s", f.QEMU.Value)
}

func checkFirmware(f Facts) verdict {
	if f.Firmware.Err != nil {
		return fail(installFirmware, "%v", f.Firmware.Err)
	}
	return ok("%s", f.Firmware.Value)
}

func checkLibvirt(f Facts) verdict {
	switch {
	case f.QEMU.Err != nil || f.Firmware.Err != nil:
		return warn("see the lines above", "not tried without QEMU and its firmware")
	case f.Libvirt.Err != nil && f.Hypervisor != "":
		return fail("start the daemon, see to it that this user may connect to it, or do without --hypervisor",
			"%s: %v", f.Hypervisor, f.Libvirt.Err)
	case f.Libvirt.Err != nil:
		return fail(installLibvirt, "%v", f.Libvirt.Err)
	case f.Hypervisor != "":
		return ok("%s, the daemon at %s", f.Libvirt.Value, f.Hypervisor)
	}
	return ok("%s, its driver runs in this process", f.Libvirt.Value)
}

func checkAccelerator(f Facts) verdict {
	const hint = "guests are emulated, ten times slower; with nested virtualisation, let this machine have KVM"
	p := f.Accelerator
	switch {
	case f.QEMU.Err != nil:
		return warn("see the line of qemu", "not proved without QEMU")
	case p.Err != nil:
		return fail(installQEMU, "no guest could be run to prove it: %v", p.Err)
	case p.Name == accel.KVM:
		return ok("%s, proved: %s", p.Name, p.Reason)
	}
	// Emulation is what most machines without KVM have, and enough.
	return warn(hint, "%s, proved: %s", p.Name, p.Reason)
}

func checkImages(f Facts) verdict {
	if f.Images.Err != nil {
		return fail("cloudtwin image build", "%v", f.Images.Err)
	}
	return ok("%s", f.Images.Value)
}

// checkKernelPackage matters only as long as there are no images.
func checkKernelPackage(f Facts) verdict {
	const advice = "apt-get update, or build from a kernel of your own: cloudtwin image build --kernel --modules"
	switch {
	case f.KernelPackage.Err == nil:
		return ok("%s", f.KernelPackage.Value)
	case f.Images.Err == nil:
		return ok("not to be had, and not needed: the images are built")
	}
	return fail(advice, "%v", f.KernelPackage.Err)
}

func checkDocker(f Facts) verdict {
	if f.Docker.Err != nil {
		return verdict{OK, fmt.Sprintf("none (optional): %v", f.Docker.Err),
			"nothing to do, unless you want specs in containers: " + installDocker}
	}
	return ok("Docker %s (optional)", f.Docker.Value)
}
