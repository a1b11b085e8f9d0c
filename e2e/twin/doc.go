// Package twin is the harness of the end-to-end suites: it starts a cloud and its node as the processes that a
// user would start, hands out AWS clients, certificates and load balancers, and keeps the evidence of a spec that
// failed. A suite starts one twin and shares it between its specs; each spec makes load balancers of its own.
//
//	var cloud *twin.Twin
//	var _ = BeforeSuite(func() { cloud = twin.Start() })
//
// Its guests come to life as --guests, CLOUDTWIN_GUESTS or the suite says (mode.go). Read twin.go first; resources.go
// makes what specs use, client.go asks load balancers, match.go has the matchers, evidence.go what a failure leaves
// behind, impostor.go a node that is the spec itself, nodes.go further nodes.
package twin
