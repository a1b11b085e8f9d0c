// Package balancer serves the listeners of one classic load balancer: it accepts clients, picks a healthy backend and
// carries requests or bytes between them.
//
// A Balancer holds what its listeners share: the backends with their health, the connections to them and the counters.
// Each open port is a Frontend, whose route and certificate can be changed while it serves. What should be served, and
// with which key, is decided by package agent; nothing in here talks to the cloud.
//
// Read target.go and pool.go for health, frontend.go for ports, proxy.go for HTTP and stream.go for TCP and SSL.
package balancer
