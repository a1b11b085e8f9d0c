// Package api is the front door of the cloud: one endpoint for all services. It gives each request an id, finds the
// operation by Action and Version, verifies the signature, reads and checks the parameters, asks whether the caller
// may, calls the service's typed method and writes the answer or the error in the form that AWS clients expect. Every
// request leaves one record in the journal.
//
// Not in here: what an operation does (the service packages), the wire types (model), signatures (authn), who may
// what (iam, behind Authorizer). Read serve.go, which is that path from top to bottom; route.go and fault.go are
// beside it.
package api
