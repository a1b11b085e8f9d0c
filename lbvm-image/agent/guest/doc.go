// Package guest makes the agent's World out of a Linux kernel: it is what runs as the first process of a guest.
//
// Two processes come of it. Process 1 (supervise.go) starts the agent, reaps zombies, and switches the machine off
// when the agent ends, however it ends: a crash of process 1 itself would be a kernel panic. The agent's process
// (main.go) mounts, loads modules, asks for an address and then runs the role of the image's flavour.
//
// Not in here: what a load balancer does (package agent), and what is in the initramfs (package builder). The reader
// goes on with main.go, then floppy.go for the medium.
package guest
