package twin

import (
	"os"
	"os/exec"
	"path/filepath"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
)

// Images has the twin's guests booted from the images of a folder in place of the environment's.
func Images(dir string) Option { return func(t *Twin) { t.images = dir } }

// BuildImages builds the images of guests that a suite brings itself, and returns their folder. Each flavour is given
// with the Go package of its first process; an empty package means the product's own agent. The folder is removed after
// the spec or suite.
func BuildImages(flavours map[string]string) string {
	ginkgo.GinkgoHelper()
	dir, err := os.MkdirTemp("", "ct-images")
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "make a folder for images")
	ginkgo.DeferCleanup(func() { gomega.Expect(os.RemoveAll(dir)).To(gomega.Succeed()) })
	program := Program()
	for pkg, names := range byPackage(flavours) {
		args := append([]string{"image", "build", "--images", dir}, names...)
		if pkg != "" {
			args = append(args, "--agent", buildGuest(dir, pkg))
		}
		out, err := exec.Command(program, args...).CombinedOutput()
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "build images %v: %s", names, out)
	}
	return dir
}

// byPackage groups flavours that have their first process in common: their images are built together.
func byPackage(flavours map[string]string) map[string][]string {
	groups := map[string][]string{}
	for flavour, pkg := range flavours {
		groups[pkg] = append(groups[pkg], flavour)
	}
	return groups
}

// buildGuest compiles a guest's first process: no dynamic loader is in its image.
func buildGuest(dir, pkg string) string {
	ginkgo.GinkgoHelper()
	path := filepath.Join(dir, "."+filepath.Base(filepath.Dir(pkg)))
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", path, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=")
	out, err := build.CombinedOutput()
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "build %s: %s", pkg, out)
	return path
}
