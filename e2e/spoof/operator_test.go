package spoof

import (
	"context"
	"net/netip"

	"github.com/google/gopacket/layers"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// told are the journal's events about frames of a guest that were dropped.
func told(id string) ([]journal.Event, error) {
	return cloud.Milestones(id, nodelink.StageFramesDropped)
}

var _ = Describe("The operator", Label("vm", "slow", twin.NeedsKernel), func() {
	It("reads of forged frames by reason, and is not flooded", func(ctx context.Context) {
		// Nobody has told of this one yet, so that the first word comes at once.
		forger := server
		Expect(told(forger.id)).To(BeEmpty())
		const rounds, times = 4, 500
		for range rounds {
			Expect(forger.SendTimes(ctx, times, ping(victim.mac, victim.ip, gatewayIP),
				arp(everybody, forger.mac, layers.ARPReply, speaker{forger.mac, gatewayIP}, speaker{everybody, gatewayIP}))).
				To(Succeed())
		}
		Eventually(func(check Gomega) {
			events, err := told(forger.id)
			check.Expect(err).NotTo(HaveOccurred())
			check.Expect(events).NotTo(BeEmpty())
			last := events[len(events)-1].Attributes
			for name, value := range map[string]string{"source": "node", "spoofed-mac": "2000", "spoofed-arp": "2000"} {
				check.Expect(last).To(HaveKeyWithValue(name, value))
			}
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
		Expect(forger.dropped()).To(Equal(map[string]uint64{"spoofed-mac": rounds * times, "spoofed-arp": rounds * times}))
		events, err := told(forger.id)
		Expect(err).NotTo(HaveOccurred())
		Expect(len(events)).To(BeNumerically("<=", 5), "events for %d frames", 2*rounds*times)
		for _, other := range []*guest{victim, balancer} {
			Expect(told(other.id)).To(BeEmpty(), "of guests that did nothing")
		}
		Expect(cloud.Stage(ctx, forger.id)).To(Equal("serving"), "what an instance is doing is told as before")
	})
})
