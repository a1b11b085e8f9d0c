package nodes

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("Renewing a node's certificate", Serial, func() {
	It("drops no connection and ends the one before", func(ctx context.Context) {
		n := cloud.AddNode("north")
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(cloud.Backends(1), twin.HTTPS(8443, cert.ARN))
		client := lb.Listener(8443, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		instance := vm(ctx, cloud, lb).ID
		thief := n.Steal()
		l := startLoad(ctx, client)

		for range 3 {
			before := serial(ctx, n)
			renew(ctx, n)
			Eventually(serial).WithArguments(ctx, n).WithTimeout(twin.ChangeTimeout).ShouldNot(Equal(before))
		}
		answered := l.answered()
		Eventually(l.answered).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", answered+10))
		Expect(l.stop()).To(BeEmpty(), "requests that failed")
		Expect(vm(ctx, cloud, lb).ID).To(Equal(instance), "the same guest as before")

		By("refusing the certificate before")
		for _, call := range []string{"Sync", "RoleCredentials", "RenewCertificate"} {
			Expect(thief.Call(ctx, call, instance)).To(Equal("nodecert-replaced"), call)
		}
		Expect(n.Steal().Call(ctx, "RoleCredentials", instance)).To(BeEmpty(), "the present one")
		Expect(events(cloud, "node.denied", n.ID)).To(ContainElement(HaveField("Attributes", And(
			HaveKeyWithValue("reason", "nodecert-replaced"), HaveKeyWithValue("serial", thief.Serial())))))
		Expect(events(cloud, "node.certificate_renewed", n.ID)).To(HaveLen(3))
		Expect(events(cloud, "node.denied", n.ID)).To(HaveLen(3), "the thief's calls, and no word of the node's own")

		By("sealing to the new one")
		other := cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN))
		Eventually(other.Listener(8443, cert.CA, host)).WithTimeout(cloud.BootTimeout()).
			Should(twin.PresentCertificate(cert))
		Expect(os.Stat(filepath.Join(n.Files(), "node.key"))).To(HaveField("Mode()", os.FileMode(0o600)))
	})

	It("goes on where a process was that ended half way", func(ctx context.Context) {
		n := cloud.AddNode("south")
		for _, file := range []string{"node.next.key", "node.next.crt", "node.old-*.key"} {
			before := serial(ctx, n)
			reached := awaitFile(filepath.Join(n.Files(), file))
			renew(ctx, n)
			Eventually(reached).WithTimeout(twin.ChangeTimeout).Should(BeClosed(), file)
			n.Kill()
			n.Start()
			Eventually(serial).WithArguments(ctx, n).WithTimeout(twin.ChangeTimeout).ShouldNot(Equal(before), file)
			Eventually(renewing).WithArguments(ctx, n).WithTimeout(twin.ChangeTimeout).Should(BeFalse(), file)
			removeAll(filepath.Join(n.Files(), "node.old-*.key")) // so that the next one is seen
		}
	})

	It("waits for a node that is away", func(ctx context.Context) {
		n := cloud.AddNode("away")
		before := serial(ctx, n)
		n.Kill()
		renew(ctx, n)
		Expect(renewing(ctx, n)).To(BeTrue())
		n.Start()
		Eventually(serial).WithArguments(ctx, n).WithTimeout(twin.ChangeTimeout).ShouldNot(Equal(before))
	})
})

func serial(ctx context.Context, n *twin.Node) string {
	GinkgoHelper()
	status, err := n.Status(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(status).NotTo(BeNil())
	return status.Certificate.Serial
}

func renewing(ctx context.Context, n *twin.Node) bool {
	GinkgoHelper()
	status, err := n.Status(ctx)
	Expect(err).NotTo(HaveOccurred())
	return status.Certificate.Renewing
}

func renew(ctx context.Context, n *twin.Node) {
	GinkgoHelper()
	code, stdout, stderr := cloud.Command(ctx, "node", "renew", n.ID)
	Expect(code).To(BeZero(), stderr)
	Expect(stdout).To(ContainSubstring("renews its certificate"))
}

// awaitFile returns a channel that is closed as soon as a file is there.
func awaitFile(pattern string) <-chan struct{} {
	GinkgoHelper()
	watcher, err := fsnotify.NewWatcher()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(watcher.Close)
	Expect(watcher.Add(filepath.Dir(pattern))).To(Succeed())
	there := make(chan struct{})
	go func() {
		for ev := range watcher.Events {
			if named, _ := filepath.Match(pattern, ev.Name); named && ev.Has(fsnotify.Create) {
				close(there)
				return
			}
		}
	}()
	return there
}

func removeAll(pattern string) {
	GinkgoHelper()
	files, err := filepath.Glob(pattern)
	Expect(err).NotTo(HaveOccurred())
	for _, file := range files {
		Expect(os.Remove(file)).To(Succeed())
	}
}

// load asks for pages all the time, on one kept connection and on new ones.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	good   int
	bad    []error
}

func startLoad(ctx context.Context, client *twin.Client) *load {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	for _, keepAlive := range []bool{true, false} {
		http, err := client.HTTPClient(ctx, keepAlive)
		Expect(err).NotTo(HaveOccurred())
		l.done.Go(func() {
			defer GinkgoRecover()
			defer http.CloseIdleConnections()
			for ctx.Err() == nil {
				_, err := client.GetWith(context.WithoutCancel(ctx), http, "/")
				l.mu.Lock()
				if err != nil {
					l.bad = append(l.bad, err)
				} else {
					l.good++
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good
}

// stop ends the load and returns the requests that failed.
func (l *load) stop() []error {
	l.cancel()
	l.done.Wait()
	return l.bad
}
