// Package agent is what runs inside a load-balancer guest as its first process, and inside the small web guest that
// stands behind it in tests: the logic only, without a kernel.
//
// RunLBVM reads the identity of the guest from its medium, learns its listeners from elb, fetches the key of each
// certificate and serves; RunWeb answers HTTP with what it knows of itself. Both are handed a World (medium, network,
// clock, console, entropy, power switch) and touch nothing else of the machine, so the same code runs in a real guest
// and in a simulated one.
//
// Not in here: mounting, modules, DHCP and the power switch of a Linux guest (agent/guest); the messages of the key
// protocol (cloud/keydelivery). The reader goes on with lbvm.go, then worker.go for the life of one listener, then
// the subpackages: metadata (instance metadata client), control (signed calls to the cloud), balancer (backends,
// health, proxying).
package agent
