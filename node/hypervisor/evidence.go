package hypervisor

import "context"

// Witness is the ability of machines whose driver knows more of them than their console tells.
type Witness interface {
	// Evidence returns, by file name, what the driver has to show of a machine, running or ended: domain.xml, how the
	// hypervisor was asked to make it, and qemu.log, what the hypervisor said itself. Of a machine that was killed it is
	// what there was then, of the last some that this process killed: ErrNotFound of others. Each is at most MaxEvidence
	// bytes, the end of what is longer; one that there is not is left out. No file holds a secret.
	Evidence(ctx context.Context) (map[string][]byte, error)
}

// MaxEvidence bounds a file of Witness, in bytes.
const MaxEvidence = 1 << 20

// The names of what a Witness has to show.
const (
	EvidenceDomain = "domain.xml"
	EvidenceLog    = "qemu.log"
)
