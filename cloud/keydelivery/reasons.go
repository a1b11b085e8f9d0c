package keydelivery

// Reason is why a delivery was denied. The operator learns it, the caller does not.
type Reason string

// The reasons, in the order of the protocol's checks. The HTTP signature (check 1) is the front door's.
const (
	ReasonNotRoleSession       Reason = "not-a-system-role-session" // 2
	ReasonMalformed            Reason = "request-malformed"         // after 2
	ReasonProfile              Reason = "profile-refused"           // after 2
	ReasonCertificateMalformed Reason = "lbcert-malformed"          // 3
	ReasonCertificateKind      Reason = "lbcert-not-end-entity"     // 3
	ReasonIssuer               Reason = "lbcert-issuer"             // 3
	ReasonValidity             Reason = "lbcert-validity"           // 3
	ReasonRevoked              Reason = "lbcert-revoked"            // 3
	ReasonInstanceMismatch     Reason = "lbcert-of-other-instance"  // 4
	ReasonTimestamp            Reason = "timestamp"                 // 5
	ReasonSignature            Reason = "signature"                 // 6
	ReasonReplay               Reason = "replay"                    // 7
	ReasonOverload             Reason = "nonce-cache-full"          // 7
	ReasonPolicy               Reason = "policy"                    // 8
	ReasonNoSuchCertificate    Reason = "no-such-certificate"       // 9
	ReasonInternal             Reason = "internal"                  // the cloud's own fault, at whatever step
)

// Check returns the number of the protocol's check that gives the reason, 2 to 9; 0 for what is none of the nine: a
// request that lacks a field, a profile that is refused, a fault of the cloud.
func (r Reason) Check() int {
	switch r {
	case ReasonNotRoleSession:
		return 2
	case ReasonCertificateMalformed, ReasonCertificateKind, ReasonIssuer, ReasonValidity, ReasonRevoked:
		return 3
	case ReasonInstanceMismatch:
		return 4
	case ReasonTimestamp:
		return 5
	case ReasonSignature:
		return 6
	case ReasonReplay, ReasonOverload:
		return 7
	case ReasonPolicy:
		return 8
	case ReasonNoSuchCertificate:
		return 9
	case ReasonMalformed, ReasonProfile, ReasonInternal:
	}
	return 0
}

// Denial says why a request was refused: what was found and what would have passed. Both are for the operator's
// audit only and hold no secret.
type Denial struct {
	Reason Reason
	Detail string // what was found
	Wanted string // what would have passed; may be empty
}

func (d *Denial) Error() string { return "delivery denied: " + string(d.Reason) + ": " + d.Detail }
