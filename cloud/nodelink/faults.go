package nodelink

// The outcomes of a fault's occasions (FaultOutcome).
const (
	FaultApplied = "applied"
	FaultRefused = "refused"
)
