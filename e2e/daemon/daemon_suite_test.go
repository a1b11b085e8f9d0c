// Package daemon shows that guests run under a libvirt daemon of this host as they do under libvirt's driver in the
// node's process: the conformance suite of drivers, and the main job. The daemon is the suite's own, with folders of
// its own, and touches none that this machine may have.
package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest"
)

func TestDaemon(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "daemon")
}

// images names the variable with the folder of guest images.
const images = "CLOUDTWIN_IMAGES"

// What all specs share: a folder with a short path, since sockets lie in it, the daemon, and what the conformance suite
// boots.
var (
	work     string
	libvirtd *libvirtDaemon
	guest    struct{ kernel, initrd string }
)

var _ = BeforeSuite(func(ctx context.Context) {
	var err error
	work, err = os.MkdirTemp("", "ctd")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(os.RemoveAll(work)).To(Succeed()) })
	// Nobody starts a daemon of this machine's user in place of the suite's while that is away.
	Expect(os.Setenv("LIBVIRT_AUTOSTART", "0")).To(Succeed())
	libvirtd = newDaemon(filepath.Join(work, "d"))
	libvirtd.start()
	image := filepath.Join(os.Getenv(images), "lbvm")
	guest.kernel, guest.initrd = filepath.Join(image, "vmlinux"), filepath.Join(work, "initramfs.img")
	Expect(guest.kernel).To(BeARegularFile(), "run 'cloudtwin image build' and name the folder of images in %s", images)
	Expect(drivertest.BuildInitrd(ctx, filepath.Join(image, "initramfs.img"), guest.initrd)).To(Succeed())
})

// running is the twin of the spec that runs, for the evidence.
var running *twin.Twin

var _ = twin.KeepEvidence(func() *twin.Twin { return running })

var _ = twin.CheckMode()
