// Package fidelity shows that guests of every kind speak the same protocol: one scenario is run on simulated, forked
// and cold guests, and what they asked of the metadata service and the API, and what came of it, must be equal.
package fidelity

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestFidelity(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "fidelity")
}

// running is the twin of the spec that runs, for the evidence.
var running *twin.Twin

var _ = twin.KeepEvidence(func() *twin.Twin { return running })

var _ = twin.CheckMode()
