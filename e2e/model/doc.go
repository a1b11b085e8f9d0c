// Package model is a model of the key-delivery protocol, small enough that every order in which its steps can happen
// is tried: two load balancers, three load-balancer VMs (LBVMs), two certificates, API calls and reconcile steps of
// elb that interleave, crashes and failing writes, terminations, LBCERTs that are renewed, IAMCERTs that are rotated
// and retired, and requests that are delayed, duplicated, replayed or sent with what was stolen elsewhere.
//
// # The property
//
// A key is delivered only to a live LBVM of a load balancer whose current listener names it. While things change,
// "current" means this. An API call that changes listeners takes effect at one instant between its beginning and its
// answer: one that names a certificate when its grant is put into the role, one that no longer names it when the
// grant is taken away. A call that failed or was cut off by a crash may have its effect until the reconcile that
// follows it is done. A delivery is allowed when there is one instant between its beginning and its answer at which
// its LBVM was live and not revoked and had the LBCERT that was shown, of an IAMCERT that was not retired, its load
// balancer named the certificate in this sense, and the key that it gets was the one behind the ARN.
//
// Beside it: every request is answered at most once and in time, an answer goes to the LBVM that asked, and when
// nothing is under way, roles hold exactly the grants that the listeners call for and nothing outlives its load
// balancer.
//
// # What is modelled
//
// One step is one transaction of the store or one call between services, as in packages elb (grants.go, create.go,
// reconcile.go) and iam (delivery.go). Rules switches each check off by itself, which is how the tests show that the
// explorer notices. The tests also drive the real packages through the same world and compare every answer.
//
// Read state.go, then property.go, tasks.go (elb) and requests.go (iam); explore.go tries everything.
package model
