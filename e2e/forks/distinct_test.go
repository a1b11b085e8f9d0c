package forks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("Forks of one template", Label("vm", twin.NeedsFork), func() {
	It("are forks, of one template, and none had to be booted", func() {
		Expect(templateFolders(templates)).To(HaveLen(2), "one template for each image")
		events, err := cloud.Events()
		Expect(err).NotTo(HaveOccurred())
		for _, ev := range events {
			Expect(ev.Attributes["stage"]).NotTo(Equal("fork-failed"), "%v", ev) // first: it has the reason
		}
		for _, f := range forks {
			Expect(milestone(f.instance, "machine-started").Attributes).To(HaveKeyWithValue("guests", "fork"))
		}
	})

	It("have client randoms of their own", func() {
		seen, keys := unique{}, unique{}
		for _, f := range forks {
			w := f.frames.read()
			Expect(w.Randoms).NotTo(BeEmpty(), "client hellos of %s", f.instance)
			for i := range w.Randoms {
				seen.add(f.instance, string(w.Randoms[i]))
				keys.add(f.instance, string(w.Keys[i]))
			}
		}
		Expect(len(seen)).To(BeNumerically(">=", many))
	})

	It("have nonces of their own", func() {
		seen := unique{}
		for _, f := range forks {
			nonce := delivery(f.instance).Attributes["nonce"]
			Expect(nonce).NotTo(BeEmpty())
			seen.add(f.instance, nonce)
		}
	})

	It("have addresses, names, MACs and identities of their own", func(ctx context.Context) {
		status, err := cloud.Operator.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		addresses := map[string]string{}
		for _, i := range status.Instances {
			addresses[i.ID] = i.PrivateIP
		}
		macs, ips, names, identities := unique{}, unique{}, unique{}, unique{}
		for _, f := range forks {
			w := f.frames.read()
			Expect(w.IP).To(Equal(addresses[f.instance]), "what DHCP gave %s", f.instance)
			macs.add(f.instance, w.MAC)
			ips.add(f.instance, w.IP)
			names.add(f.instance, w.Name)
			identities.add(f.instance, delivery(f.instance).Attributes["lbcertSerial"])
		}
		lbKeys, err := media.Keys()
		Expect(err).NotTo(HaveOccurred())
		Expect(len(lbKeys)).To(BeNumerically(">=", many), "an LBPK each")
	})

	DescribeTable("have session ticket keys of their own", func(ctx context.Context, others int) {
		for i, f := range forks {
			first := &ticket{}
			Expect(ask(ctx, f, first).resumed).To(BeFalse())
			Expect(ask(ctx, f, first).resumed).To(BeTrue(), "a ticket of %s's own", f.lb.Name)
			for n := range others {
				other := forks[(i+1+n)%many]
				Expect(ask(ctx, other, first).resumed).To(BeFalse(), "a ticket of %s's at %s", f.lb.Name, other.lb.Name)
			}
		}
	},
		Entry("that the next fork does not know", 1),
		Entry("that none of the others knows", Label("slow"), many-1),
	)

	It("know what time it is, when their template is old", func(ctx context.Context) {
		const old = 15 * time.Second
		for _, folder := range templateFolders(templates) {
			Eventually(func() time.Duration {
				return time.Since(time.Unix(0, modified(filepath.Join(folder, "state"))))
			}).WithTimeout(2 * old).Should(BeNumerically(">", old))
		}
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(port, cert.ARN))
		late := &fork{lb: lb, client: lb.Listener(port, cert.CA, host)}
		Eventually(late.client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
		late.instance = lb.Machine().ID
		for _, f := range []*fork{late, forks[0], forks[many-1]} {
			// A guest has the time from its medium. On a busy machine that is as old as the guest's start was slow.
			launched, granted := launch(f.instance), delivery(f.instance)
			asked, err := time.Parse(time.RFC3339, granted.Attributes["timestamp"])
			Expect(err).NotTo(HaveOccurred())
			Expect(asked).To(BeTemporally(">=", launched.Time.Truncate(time.Second)), "when %s asked for its key", f.instance)
			Expect(asked).To(BeTemporally("<=", granted.Time.Add(time.Second)), "when %s asked for its key", f.instance)
			slow := granted.Time.Sub(launched.Time) + 2*time.Second
			Expect(ask(ctx, f, nil).date).To(BeTemporally("~", time.Now(), slow), "the time that %s tells now", f.lb.Name)
		}
	})

	It("are web guests too", func(ctx context.Context) {
		backend := cloud.Backends(1)
		lb := cloud.CreateLoadBalancer(backend, twin.HTTPS(port, cert.ARN))
		client := lb.Listener(port, cert.CA, host)
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		page, err := client.Get(ctx, "/")
		Expect(err).NotTo(HaveOccurred())
		Expect(page.InstanceID).To(Equal(backend[0]))
		Expect(milestone(backend[0], "machine-started").Attributes).To(HaveKeyWithValue("guests", "fork"))
	})

	It("are told apart from within, too", func() {
		var guests []*twin.Machine
		for range 3 {
			guests = append(guests, cloud.Launch("web", ""))
		}
		names, boots, hosts := unique{}, unique{}, unique{}
		for _, g := range guests {
			tell := func(command string) string {
				GinkgoHelper()
				out := g.Run(command)
				Expect(out.Code).To(BeZero(), "%q in %s: %s", command, g.ID, out.Stderr)
				return strings.TrimSpace(out.Stdout)
			}
			names.add(g.ID, tell("hostname"))
			boots.add(g.ID, tell("cat /proc/sys/kernel/random/boot_id"))
			keys := twin.Stages(g.Console(), "ssh")
			Expect(keys).NotTo(BeEmpty(), "the host key of %s", g.ID)
			hosts.add(g.ID, fmt.Sprint(keys[0]["fingerprint"]))
			Expect(milestone(g.ID, "machine-started").Attributes).To(HaveKeyWithValue("guests", "fork"))
		}
	})
})

// ticket is a client's memory that keeps the first ticket it gets, whatever others give it.
type ticket struct{ session *tls.ClientSessionState }

func (t *ticket) Get(string) (*tls.ClientSessionState, bool) { return t.session, t.session != nil }

func (t *ticket) Put(_ string, session *tls.ClientSessionState) {
	if t.session == nil {
		t.session = session
	}
}

// unique fails a spec when two forks have the same.
type unique map[string]string

func (u unique) add(who, what string) {
	GinkgoHelper()
	Expect(what).NotTo(BeEmpty(), "of %s", who)
	Expect(u).NotTo(HaveKey(what), "%s and %s have the same", who, u[what])
	u[what] = who
}

// answer is what a load balancer without backends says.
type answer struct {
	resumed bool
	date    time.Time
}

// ask makes a request on a new connection, with the tickets in cache; all forks are the same server to it.
func ask(ctx context.Context, f *fork, cache tls.ClientSessionCache) answer {
	GinkgoHelper()
	address, err := f.client.Address(ctx)
	Expect(err).NotTo(HaveOccurred())
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(cert.CA.PEM)).To(BeTrue())
	client := &http.Client{Timeout: twin.ChangeTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ClientSessionCache: cache, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s/", host), nil)
	Expect(err).NotTo(HaveOccurred())
	resp, err := client.Do(req)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	Expect(err).NotTo(HaveOccurred())
	date, err := http.ParseTime(resp.Header.Get("Date"))
	Expect(err).NotTo(HaveOccurred(), "the date in %v", resp.Header)
	return answer{resumed: resp.TLS.DidResume, date: date}
}
