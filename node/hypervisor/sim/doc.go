// Package sim runs simulated machines: a hypervisor.Driver whose guests are the real agent's code (lbvm-image/agent)
// in goroutines of this process. A guest reads the bytes of the real floppy image, gets its address by DHCP over the
// node's virtual network, speaks through a network stack of its own, and tells its milestones on a console log like a
// guest with a kernel. Only processor, kernel and devices are not there: package libvirt is for those.
//
// How long a guest takes to boot, how much memory it has and how it may fail is data, a Lifecycle. Modelled delays
// take no real time unless the driver is given RealTime.
//
// Machines live and end with their driver; the next driver on the same folder finds them as ended. Nothing of theirs
// listens on the host: the driver is a hypervisor.Dialer.
//
// Read driver.go and machine.go for the driver's side, program.go for what a guest does, then network.go and nic.go
// for its way to the wire. image.go writes the images that name these guests; lifecycle.go reads lifecycles.
package sim
