package libvirt

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/drivertest"
)

// images is the environment variable that names the folder of built images.
const images = "CLOUDTWIN_IMAGES"

const needImages = "real machines need guest images: run `cloudtwin image build` and set " + images +
	" to the images folder (make test does both)"

func TestMain(m *testing.M) {
	if role := os.Getenv(helperRole); role != "" {
		os.Exit(helper(role))
	}
	os.Exit(m.Run())
}

func TestMachines(t *testing.T) {
	if os.Getenv(images) == "" {
		if testing.Short() {
			t.Skip(needImages)
		}
		t.Fatal(needImages)
	}
	RegisterFailHandler(Fail)
	suite, reporter := GinkgoConfiguration()
	suite.Timeout = 14 * time.Minute
	RunSpecs(t, "libvirt machines", suite, reporter)
}

// guest is what all specs boot.
var guest struct{ kernel, initrd string }

// work is the suite's folder: short, because unix sockets lie in it.
var work string

var _ = BeforeSuite(func(ctx context.Context) {
	leaks := goleak.IgnoreCurrent()
	DeferCleanup(func() { Eventually(func() error { return goleak.Find(leaks) }).Should(Succeed()) })
	var err error
	work, err = os.MkdirTemp("", "ctlv")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() {
		Eventually(processes).WithArguments(work).Should(BeEmpty(), "no QEMU is left")
		Expect(os.RemoveAll(work)).To(Succeed())
	})
	image := filepath.Join(os.Getenv(images), "lbvm")
	guest.kernel, guest.initrd = filepath.Join(image, "vmlinux"), filepath.Join(work, "initramfs.img")
	Expect(guest.kernel).To(BeARegularFile(), needImages)
	Expect(drivertest.BuildInitrd(ctx, filepath.Join(image, "initramfs.img"), guest.initrd)).To(Succeed())
})

// config is that of all drivers of this process: libvirt takes one root a process.
func config() Config {
	return Config{Root: filepath.Join(work, "root"), CacheDir: cacheDir()}
}

// cacheDir is kept from run to run like a user's, unless the host has none.
func cacheDir() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "cloudtwin")
	}
	return filepath.Join(work, "cache")
}

var _ = Describe("libvirt", Label("vm"), func() {
	var last *Driver
	drivertest.Specs(func() drivertest.Harness {
		dir := filepath.Join(work, "vms")
		Expect(os.MkdirAll(dir, 0o700)).To(Succeed())
		return drivertest.Harness{
			Open: func(ctx context.Context) (_ hypervisor.Driver, err error) {
				last, err = Open(ctx, config())
				return last, err
			},
			Kernel: guest.kernel, Initrd: guest.initrd, Dir: dir, HasDisplay: true,
			Spares: func() int { return last.pools.ready() },
		}
	})
})
