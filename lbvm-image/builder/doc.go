// Package builder turns a Linux kernel package and the agent into bootable guest images: an uncompressed kernel
// (vmlinux with a PVH note), an initramfs with the agent as /init, and a manifest that names every input and output
// by its SHA-256.
//
// The same inputs give the same bytes, and nothing is built twice: Build compares the digest of its inputs with that
// of the image which is there. The kernel comes from the distribution's package, taken through apt into a cache
// folder and unpacked there; it is never installed on the host.
//
// Not in here: what runs in the guest (agent, agent/guest) and who starts it (node). The reader goes on with
// build.go, then kernel.go and initramfs.go; image.go is for those who only want to use an image.
package builder
