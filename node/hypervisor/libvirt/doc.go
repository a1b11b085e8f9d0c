// Package libvirt runs machines as QEMU guests through libvirt: by default its QEMU driver embedded in this process
// (qemu:///embed), which needs no daemon and no privileges, or a libvirt daemon of this host by URI.
//
// Read driver.go first, then define.go (what a machine is made of, and why each part of it is there), cmdline.go (what
// the guest's kernel is told), machine.go (what can be done with a running machine) and console.go. embed.go and
// loop.go keep libvirt's own process-wide state: one event loop, one root folder; takeover.go is about what an earlier
// process left. The accelerator is proved by hypervisor/accel; the contract is hypervisor, and hypervisor/drivertest
// its conformance suite.
//
// Build with the tag libvirt_dlopen: libvirt is then loaded when a driver is opened, and a host without it gets a
// clear error instead of a binary that does not start.
//
// Copies of a template (hypervisor.Forker) begin in fork.go. Their memory is the template's file, mapped privately: see
// ramArguments in arguments.go. state.go carries the rest of a template's state to and fro, ground.go says what it
// depends on, and pool.go, fill.go, rehearse.go and claim.go keep copies ready and give them away.
//
// Daemons (qemu:///session, qemu:///system, qemu+unix://...) use the same code, with these differences: their QEMU must
// run as the user of this process, who owns the files of a Spec; there are no copies of templates
// (errors.ErrUnsupported); what an earlier process left is the daemon's. One on another host is refused (CheckURI).
package libvirt
