// Package mainjob proves the main job on any kind of guests: load-balancer VMs serve TLS with keys that came by
// floppy, through changes of certificates, withdrawals, restarts and failing backends.
package mainjob

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestMainJob(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "main job")
}

// The suite's cloud and two backends, which most specs share.
var (
	cloud    *twin.Twin
	backends []string
)

var _ = BeforeSuite(func() {
	cloud = twin.Start()
	backends = cloud.Backends(2)
})

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = twin.KeepInvariants(func() *twin.Twin { return cloud })

var _ = twin.CheckMode()
