// Package keydelivery is the protocol by which a user's TLS private key (USERPK) reaches the one load-balancer VM
// that may open it: identities, sealing, the floppy's files, the request and its answer, and the checks between
// them. Cloud, node and agent share it; it imports none of them and keeps no state but a cache of nonces.
//
// Read in the order of the key's journey: keyword.go (who asks for a credential), authority.go (IAMCERT and
// LBCERT), credential.go (cloud to node), medium.go and boot.go (node to guest), request.go and checks.go (guest to
// cloud), answer.go (cloud to guest). The names IAMCERT, NODECERT, LBCERT and USERPK are those of the protocol's
// document.
package keydelivery

// Profile is the variant of the protocol. Profile 1 is the original one, with RSA identities; profile 2 uses
// P-256, JWE, nonces and an answer that is bound to its request.
type Profile int

// The profiles.
const (
	Profile1 Profile = 1
	Profile2 Profile = 2
)

// maxField bounds every encoded field that arrives from outside, in bytes.
const maxField = 64 << 10
