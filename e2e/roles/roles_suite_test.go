// Package roles looks at instance roles from inside real guests: a program with the AWS SDK's default chain and no key
// of its own (command guest) just works, for as long as its instance has a profile, and may do what its role may.
package roles

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestRoles(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "roles")
}

var cloud *twin.Twin

var _ = twin.CheckMode()

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = BeforeSuite(func() {
	images := twin.BuildImages(map[string]string{"web": "github.com/cloudtwin/cloudtwin/e2e/roles/guest", "lbvm": ""})
	cloud = twin.Start(twin.Images(images))
})
