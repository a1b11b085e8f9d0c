package threats

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/floppy"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/libvirt"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/sim"
)

// sabotage is what somebody on the node's host does to the floppy of the next load-balancer VM, between the node that
// wrote it and the machine that reads it. It returns the path of what goes into the drive, empty for nothing.
type sabotage func(spec hypervisor.Spec) string

// saboteur holds the sabotage of the next machines, in order.
type saboteur struct {
	mu   sync.Mutex
	next []sabotage
	hit  []string // ids of the machines that had it
}

func (s *saboteur) plan(next ...sabotage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next, s.hit = next, nil
}

func (s *saboteur) victims() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hit)
}

// spec is what the driver is told instead of what the node said.
func (s *saboteur) spec(spec hypervisor.Spec) hypervisor.Spec {
	s.mu.Lock()
	if spec.Medium == "" || len(s.next) == 0 {
		s.mu.Unlock()
		return spec
	}
	do := s.next[0]
	s.next, s.hit = s.next[1:], append(s.hit, spec.ID)
	s.mu.Unlock()
	spec.Medium = do(spec)
	return spec
}

// simDriver and forkDriver put the saboteur between a node and its driver.
type simDriver struct {
	*sim.Driver
	*saboteur
}

func (d simDriver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	return d.Driver.Start(ctx, d.spec(spec))
}

type forkDriver struct {
	*libvirt.Driver
	*saboteur
}

func (d forkDriver) Fork(ctx context.Context, spec hypervisor.Spec, t hypervisor.Template) (hypervisor.Machine, error) {
	return d.Driver.Fork(ctx, d.spec(spec), t)
}

// host is a machine with a node and a saboteur on it.
type hostMachine struct {
	*saboteur
	cloud *twin.Twin
	node  *node.Node
	sims  *sim.Driver // nil when guests are real
}

// startHost starts a cloud with one node, in this process, whose floppies are there for mediumLife.
func startHost(mediumLife time.Duration) *hostMachine {
	GinkgoHelper()
	h := &hostMachine{saboteur: &saboteur{}, cloud: twin.StartCloud()}
	layout := local.Layout(h.cloud.NodeDir())
	Expect(local.Prepare(layout)).To(Succeed())
	token, err := h.cloud.Operator.NewNodeToken(background())
	Expect(err).NotTo(HaveOccurred())
	cfg := node.Config{ID: "node-1", Dir: layout.Node(), CloudAddress: nodeLinkOf(h.cloud), Token: token,
		RunDir: layout.Media(), Guests: h.cloud.Mode, MediumLife: mediumLife, TemplateDir: local.Templates(),
		Images: os.Getenv("CLOUDTWIN_IMAGES")}
	Expect(os.MkdirAll(layout.Node(), 0o700)).To(Succeed())
	if h.cloud.Mode == node.GuestsSim {
		h.sims, err = sim.New(sim.Config{Dir: filepath.Join(layout.Node(), "sim")})
		Expect(err).NotTo(HaveOccurred())
		cfg.Driver, cfg.Images = simDriver{h.sims, h.saboteur}, local.Layout(h.cloud.StateDir).SimImages()
	} else {
		if cfg.Images == "" {
			cfg.Images = local.DefaultImages()
		}
		real, err := libvirt.Open(background(), libvirt.Config{Root: layout.LibvirtRoot(), CacheDir: local.Cache()})
		Expect(err).NotTo(HaveOccurred())
		cfg.Driver = forkDriver{real, h.saboteur}
	}
	DeferCleanup(cfg.Driver.Close)
	h.node, err = node.Start(background(), cfg)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(h.node.Close)
	DeferCleanup(func() { h.endAll(cfg.Driver) })
	Eventually(func(g Gomega) {
		status, err := h.cloud.Operator.Status(background())
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(status.Nodes).To(ContainElement(HaveField("State", "up")))
	}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
	return h
}

// endAll ends the machines that are left, which real ones outlive their node.
func (*hostMachine) endAll(driver hypervisor.Driver) {
	GinkgoHelper()
	machines, err := driver.List(background())
	Expect(err).NotTo(HaveOccurred())
	for _, m := range machines {
		Expect(m.Kill(background())).To(Succeed())
	}
}

func nodeLinkOf(t *twin.Twin) string {
	GinkgoHelper()
	status, err := t.Operator.Status(background())
	Expect(err).NotTo(HaveOccurred())
	return status.NodeLink
}

// milestone returns the first milestone of a stage of a guest, nil for none.
func (h *hostMachine) milestone(id, stage string) map[string]string {
	GinkgoHelper()
	told, err := h.cloud.Milestones(id, stage)
	Expect(err).NotTo(HaveOccurred())
	if len(told) == 0 {
		return nil
	}
	return told[0].Attributes
}

// balancer makes a load balancer and returns a client of its listener.
func (h *hostMachine) balancer() (*twin.Client, *twin.Certificate) {
	GinkgoHelper()
	cert := h.cloud.Upload(pki.P256, host)
	return h.cloud.CreateLoadBalancer(nil, twin.HTTPS(tlsPort, cert.ARN)).Listener(tlsPort, cert.CA, host), cert
}

// expectNoKey expects that a guest ended without ever having had a key, for a reason, and that a guest whose floppy is
// left alone serves in its place.
func (h *hostMachine) expectNoKey(client *twin.Client, cert *twin.Certificate, reason string) (id string) {
	GinkgoHelper()
	Eventually(h.victims).WithTimeout(h.cloud.BootTimeout()).Should(HaveLen(1))
	id = h.victims()[0]
	h.awaitEnd(id)
	Expect(deliveries(h.cloud, id)).To(BeZero(), "keys for %s", id)
	Expect(h.why(id)).To(ContainSubstring(reason))
	Eventually(client).WithTimeout(h.cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
	return id
}

// awaitEnd waits for the end of a guest.
func (h *hostMachine) awaitEnd(id string) {
	GinkgoHelper()
	limit := h.cloud.BootTimeout()
	if h.sims != nil {
		limit = reaction
	}
	Eventually(h.cloud.State).WithContext(background()).WithArguments(id).WithTimeout(limit).Should(Equal("terminated"))
}

// why is all that the journal has of reasons of a guest.
func (h *hostMachine) why(id string) string {
	GinkgoHelper()
	events, err := h.cloud.Events()
	Expect(err).NotTo(HaveOccurred())
	text := ""
	for _, ev := range events {
		if ev.Subject == id && ev.Attributes["reason"] != "" {
			text += ev.Attributes["reason"] + "\n"
		}
	}
	return text
}

// altering changes the floppy's bytes where they lie.
func altering(how func(image []byte) []byte) sabotage {
	return func(spec hypervisor.Spec) string {
		image, err := os.ReadFile(spec.Medium)
		if err != nil {
			return ""
		}
		if os.WriteFile(spec.Medium, how(image), 0o600) != nil {
			return ""
		}
		return spec.Medium
	}
}

// rewriting changes the floppy's files and makes a floppy of them again, without a fault to be seen.
func rewriting(how func(files map[string][]byte)) sabotage {
	return func(spec hypervisor.Spec) string {
		files, err := readFloppy(spec.Medium)
		if err != nil {
			return ""
		}
		how(files)
		f, err := os.OpenFile(spec.Medium, os.O_RDWR|os.O_TRUNC, 0)
		if err != nil {
			return ""
		}
		defer func() { _ = f.Close() }()
		if floppy.WriteFile(f, files) != nil {
			return ""
		}
		return spec.Medium
	}
}

func readFloppy(path string) (map[string][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	files, err := floppy.Read(f)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, name := range []string{"credential", "cloudtwin.json"} {
		if out[name], err = fs.ReadFile(files, name); err != nil {
			return nil, err
		}
	}
	return out, nil
}
