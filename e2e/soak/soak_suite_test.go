// Package soak creates and deletes load balancers over and over and finds that nothing of them stays: no process,
// thread, file descriptor, socket, file, record or memory.
package soak

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestSoak(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "soak")
}

var _ = twin.CheckMode()
