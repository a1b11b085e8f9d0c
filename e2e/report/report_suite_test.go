// Package report proves the page that 'cloudtwin inspect --html' writes, with a browser: it opens from the disk, asks
// no network, and shows what a person looks for. The bundle is a real cloud's, of simulated guests.
package report

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/node"
)

func TestReport(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "report")
}

// The suite's cloud and browser.
var (
	cloud   *twin.Twin
	browser context.Context
)

// startTimeout bounds a browser's start: a busy machine takes more than the twenty seconds that chromedp gives it.
const startTimeout = 2 * time.Minute

var _ = BeforeSuite(func() {
	path := findBrowser()
	cloud = twin.Start(twin.Guests(node.GuestsSim), twin.Displays())
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU,
		chromedp.WindowSize(1500, 950), chromedp.UserDataDir(GinkgoT().TempDir()),
		chromedp.WSURLReadTimeout(startTimeout))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses its sandbox to root
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	DeferCleanup(end)
	browser, end = chromedp.NewContext(allocator)
	DeferCleanup(end)
	// Unlike the two before, this waits until the browser has ended: the suite must not be gone first.
	DeferCleanup(func() error { return chromedp.Cancel(browser) })
	Expect(chromedp.Run(browser)).To(Succeed(), "start %s", path)
})

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

// findBrowser returns the program of a Chromium.
func findBrowser() string {
	GinkgoHelper()
	if path := os.Getenv("CLOUDTWIN_BROWSER"); path != "" {
		return path
	}
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome",
		"google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Fail("infrastructure: no Chromium in PATH; install it with '.ci/deps' (Debian: apt-get install " +
		"chromium-headless-shell), or set CLOUDTWIN_BROWSER to the program's path")
	return ""
}
