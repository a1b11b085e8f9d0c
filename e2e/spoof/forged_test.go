package spoof

import (
	"context"
	"maps"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// attempt is a forged frame and what becomes of it. The frames are made when the guests' addresses are known.
type attempt struct {
	reason string // for which it is counted
	forged func() [][]byte
	// honest is the same without what is forged, and seen how it shows that it passed: at whom, and by which frame. None
	// for what has no honest form; then a ping of the attacker's own follows.
	honest func() [][]byte
	seen   func() (by *guest, as func(gopacket.Packet) bool)
}

// dropped is how many of the guest's frames the node has dropped so far, by reason.
func (g *guest) dropped() map[string]uint64 {
	GinkgoHelper()
	s, ok := network.Stats(g.id)
	Expect(ok).To(BeTrue())
	return s.Dropped()
}

func one(f func() []byte) func() [][]byte { return func() [][]byte { return [][]byte{f()} } }

func pingOf() [][]byte { return [][]byte{ping(attacker.mac, attacker.ip, gatewayIP)} }

func atAttacker(is func(gopacket.Packet) bool) func() (*guest, func(gopacket.Packet) bool) {
	return func() (*guest, func(gopacket.Packet) bool) { return attacker, is }
}

func echoed() (*guest, func(gopacket.Packet) bool) { return attacker, isEcho(gatewayIP) }

// goodbye is what the attacker says to the victim when it is done, from its own address.
func goodbye() []byte {
	GinkgoHelper()
	return udp(attacker.mac, attacker.ip, victim.ip, 1078, 1078, []byte("goodbye"))
}

func isGoodbye(p gopacket.Packet) bool { return isWord("goodbye")(p) }

// surprises are the frames that the victim heard and that its own doings do not explain.
func surprises(but func(gopacket.Packet) bool) []string {
	var found []string
	for _, p := range victim.heard {
		_, isARP := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		ip, isIP := p.NetworkLayer().(*layers.IPv4)
		if !isARP && (!isIP || !ip.SrcIP.Equal(server.ip.AsSlice())) && !isGoodbye(p) && !but(p) {
			found = append(found, p.String())
		}
	}
	return found
}

// expectDropped holds what was counted since before against what must have been.
func expectDropped(before map[string]uint64, reason string, n uint64) {
	GinkgoHelper()
	want := maps.Clone(before)
	want[reason] += n
	Expect(attacker.dropped()).To(Equal(want), "what the node counted")
}

var _ = Describe("A guest's raw frames", Label("vm", "slow", twin.NeedsKernel), func() {
	DescribeTable("are dropped, counted and without effect when they are", func(ctx context.Context, a attempt) {
		before := attacker.dropped()
		Expect(attacker.Send(ctx, a.forged()...)).To(Succeed())
		if a.honest == nil {
			a.honest, a.seen = pingOf, echoed
		}
		// Frames keep their order: what came of the forged one came before what comes of these.
		Expect(attacker.Send(ctx, append(a.honest(), goodbye())...)).To(Succeed())
		by, as := a.seen()
		by.awaitFrame(ctx, "the honest frame's effect", as)
		victim.awaitFrame(ctx, "the attacker's last word", isGoodbye)

		expectDropped(before, a.reason, 1)
		Expect(surprises(func(p gopacket.Packet) bool { return by == victim && as(p) })).To(BeEmpty())
	},
		Entry("from the victim's MAC", attempt{reason: "spoofed-mac", honest: pingOf, seen: echoed,
			forged: one(func() []byte { return ping(victim.mac, attacker.ip, gatewayIP) })}),
		Entry("from the victim's IP", attempt{reason: "spoofed-ip", honest: pingOf, seen: echoed,
			forged: one(func() []byte { return ping(attacker.mac, victim.ip, gatewayIP) })}),
		Entry("from the victim's MAC and IP", attempt{reason: "spoofed-mac", honest: pingOf, seen: echoed,
			forged: one(func() []byte { return ping(victim.mac, victim.ip, gatewayIP) })}),
		Entry("from the gateway's MAC", attempt{reason: "spoofed-mac", honest: pingOf, seen: echoed,
			forged: one(func() []byte { return ping(gatewayMAC, attacker.ip, gatewayIP) })}),
		Entry("from the gateway's IP to the victim", attempt{reason: "spoofed-ip",
			forged: one(func() []byte { return ping(attacker.mac, gatewayIP, victim.ip) })}),
		Entry("from no IP", attempt{reason: "spoofed-ip",
			forged: one(func() []byte { return ping(attacker.mac, noIP, gatewayIP) })}),
		Entry("a reset of the victim's connection, as its server", attempt{reason: "spoofed-ip",
			forged: one(func() []byte {
				return frame(toGateway(attacker.mac), ip4(server.ip, victim.ip, layers.IPProtocolTCP),
					&layers.TCP{SrcPort: 80, DstPort: 40000, RST: true, Seq: 1})
			})}),

		Entry("a connection to the metadata service as the victim", attempt{reason: "spoofed-ip",
			forged: one(func() []byte { return syn(attacker.mac, victim.ip, metadataIP, 80) }),
			honest: one(func() []byte { return syn(attacker.mac, attacker.ip, metadataIP, 80) }),
			seen:   atAttacker(isAccepted(metadataIP))}),
		Entry("a connection to the metadata service as the victim, MAC and all", attempt{reason: "spoofed-mac",
			forged: one(func() []byte { return syn(victim.mac, victim.ip, metadataIP, 80) }),
			honest: one(func() []byte { return syn(attacker.mac, attacker.ip, metadataIP, 80) }),
			seen:   atAttacker(isAccepted(metadataIP))}),
		Entry("a connection to the metadata service as the load balancer", attempt{reason: "spoofed-ip",
			forged: one(func() []byte { return syn(attacker.mac, balancer.ip, metadataIP, 80) }),
			honest: one(func() []byte { return syn(attacker.mac, attacker.ip, metadataIP, 80) }),
			seen:   atAttacker(isAccepted(metadataIP))}),
		Entry("a connection to the API as the load balancer, MAC and all", attempt{reason: "spoofed-mac",
			forged: one(func() []byte { return syn(balancer.mac, balancer.ip, apiIP, 443) }),
			honest: one(func() []byte { return syn(attacker.mac, attacker.ip, apiIP, 443) }),
			seen:   atAttacker(isAccepted(apiIP))}),

		Entry("an ARP question as the victim", attempt{reason: "spoofed-arp",
			forged: one(func() []byte {
				return arp(everybody, attacker.mac, layers.ARPRequest, speaker{attacker.mac, victim.ip}, speaker{nil6, gatewayIP})
			}),
			honest: one(func() []byte {
				return arp(everybody, attacker.mac, layers.ARPRequest, speaker{attacker.mac, attacker.ip}, speaker{nil6, gatewayIP})
			}),
			seen: atAttacker(isARPAnswer(gatewayIP))}),
		Entry("an ARP question with the victim's MAC", attempt{reason: "spoofed-arp",
			forged: one(func() []byte {
				return arp(everybody, attacker.mac, layers.ARPRequest, speaker{victim.mac, attacker.ip}, speaker{nil6, gatewayIP})
			})}),
		Entry("an announcement of the gateway's address", attempt{reason: "spoofed-arp",
			forged: one(func() []byte {
				return arp(everybody, attacker.mac, layers.ARPRequest, speaker{attacker.mac, gatewayIP},
					speaker{nil6, gatewayIP})
			})}),
		Entry("an announcement of the metadata service's address", attempt{reason: "spoofed-arp",
			forged: one(func() []byte {
				return arp(everybody, attacker.mac, layers.ARPReply, speaker{attacker.mac, metadataIP},
					speaker{everybody, metadataIP})
			})}),
		Entry("an ARP answer for the server's address", attempt{reason: "spoofed-arp",
			forged: one(func() []byte {
				return arp(gatewayMAC, attacker.mac, layers.ARPReply, speaker{attacker.mac, server.ip},
					speaker{gatewayMAC, gatewayIP})
			})}),
		Entry("an ARP answer to the victim itself", attempt{reason: "destination",
			forged: one(func() []byte {
				return arp(victim.mac, attacker.mac, layers.ARPReply, speaker{attacker.mac, gatewayIP},
					speaker{victim.mac, victim.ip})
			})}),

		Entry("DHCP for the victim's card", attempt{reason: "spoofed-dhcp",
			forged: one(func() []byte {
				return dhcp(attacker.mac, noIP, everybodyIP, victim.mac, layers.DHCPMsgTypeDiscover, noIP)
			}),
			honest: one(func() []byte {
				return dhcp(attacker.mac, noIP, everybodyIP, attacker.mac, layers.DHCPMsgTypeDiscover, noIP)
			}),
			seen: func() (*guest, func(gopacket.Packet) bool) { return attacker, isOffer(attacker.ip) }}),
		Entry("a release of the victim's lease", attempt{reason: "spoofed-dhcp",
			forged: one(func() []byte {
				return dhcp(attacker.mac, attacker.ip, gatewayIP, attacker.mac, layers.DHCPMsgTypeRelease, victim.ip)
			})}),
		Entry("a DHCP server's offer to the victim", attempt{reason: "spoofed-dhcp",
			forged: one(func() []byte { return udp(attacker.mac, attacker.ip, victim.ip, 67, 68, rogueOffer()) }),
			honest: one(func() []byte { return udp(attacker.mac, attacker.ip, victim.ip, 67, 6868, []byte("no offer")) }),
			seen:   func() (*guest, func(gopacket.Packet) bool) { return victim, isWord("no offer") }}),
		Entry("a DHCP server's offer to everybody", attempt{reason: "spoofed-dhcp",
			forged: one(func() []byte { return udp(attacker.mac, attacker.ip, everybodyIP, 67, 68, rogueOffer()) })}),

		Entry("an IPv6 router's advertisement", attempt{reason: "ipv6", forged: one(func() []byte {
			return ip6(&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)})
		})}),
		Entry("an IPv6 neighbour's advertisement", attempt{reason: "ipv6", forged: one(func() []byte {
			return ip6(&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)})
		})}),
		Entry("IPv6 of any other kind", attempt{reason: "ipv6", forged: one(func() []byte {
			return ip6(&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)})
		})}),
		Entry("tagged for a VLAN", attempt{reason: "vlan", honest: pingOf, seen: echoed,
			forged: one(func() []byte { return tagged(layers.EthernetTypeDot1Q, 1) })}),
		Entry("tagged as having priority alone", attempt{reason: "vlan", honest: pingOf, seen: echoed,
			forged: one(func() []byte { return tagged(layers.EthernetTypeDot1Q, 0) })}),
		Entry("tagged twice", attempt{reason: "vlan", honest: pingOf, seen: echoed,
			forged: one(func() []byte { return tagged(layers.EthernetTypeQinQ, 100) })}),
		Entry("of another protocol", attempt{reason: "ether-type", forged: one(func() []byte {
			return frame(ether(attacker.mac, gatewayMAC, layers.EthernetTypePPPoEDiscovery), gopacket.Payload(make([]byte, 46)))
		})}),

		Entry("a first fragment that hides its ports", attempt{reason: "malformed",
			forged: func() [][]byte {
				head := ip4(attacker.ip, victim.ip, layers.IPProtocolUDP)
				head.Flags = layers.IPv4MoreFragments
				return [][]byte{frame(toGateway(attacker.mac), head, gopacket.Payload("\x00\x43"))}
			},
			honest: func() [][]byte { return halves(attacker.mac, attacker.ip, gatewayIP, 16) }, seen: echoed}),
		Entry("a later fragment as the victim", attempt{reason: "spoofed-ip",
			forged: func() [][]byte { return halves(attacker.mac, victim.ip, gatewayIP, 16)[1:] },
			honest: func() [][]byte { return halves(attacker.mac, attacker.ip, gatewayIP, 16) }, seen: echoed}),

		Entry("an ICMP redirect to the victim", attempt{reason: "forged-icmp",
			forged: one(func() []byte {
				redirect := icmp(layers.ICMPv4TypeRedirect, 1)
				return frame(toGateway(attacker.mac), ip4(attacker.ip, victim.ip, layers.IPProtocolICMPv4), redirect,
					gopacket.Payload(frame(ip4(victim.ip, server.ip, layers.IPProtocolTCP), &layers.TCP{DstPort: 80})[:28]))
			}),
			honest: one(func() []byte { return ping(attacker.mac, attacker.ip, victim.ip) }),
			seen:   func() (*guest, func(gopacket.Packet) bool) { return victim, isPing(attacker.ip) }}),
		Entry("an ICMP error about the victim's connection", attempt{reason: "forged-icmp",
			forged: one(func() []byte { return unreachable(ip4(victim.ip, server.ip, layers.IPProtocolTCP)) }),
			honest: one(func() []byte { return unreachable(ip4(victim.ip, attacker.ip, layers.IPProtocolTCP)) }),
			seen:   func() (*guest, func(gopacket.Packet) bool) { return victim, isUnreachable(attacker.ip) }}),
		Entry("an ICMP redirect as the gateway", attempt{reason: "spoofed-ip", forged: one(func() []byte {
			return frame(toGateway(attacker.mac), ip4(gatewayIP, victim.ip, layers.IPProtocolICMPv4),
				icmp(layers.ICMPv4TypeRedirect, 1), gopacket.Payload(make([]byte, 28)))
		})}),
		Entry("a packet that chooses its route", attempt{reason: "source-route",
			forged: one(func() []byte {
				by := ip4(attacker.ip, victim.ip, layers.IPProtocolICMPv4)
				by.Options = []layers.IPv4Option{{OptionType: 131, OptionLength: 7,
					OptionData: append([]byte{4}, server.ip.AsSlice()...)}}
				return frame(toGateway(attacker.mac), by, echo(), gopacket.Payload("ping"))
			}),
			honest: one(func() []byte { return ping(attacker.mac, attacker.ip, victim.ip) }),
			seen:   func() (*guest, func(gopacket.Packet) bool) { return victim, isPing(attacker.ip) }}),

		Entry("to everybody", attempt{reason: "destination",
			forged: one(func() []byte {
				return frame(ether(attacker.mac, everybody, layers.EthernetTypeIPv4),
					ip4(attacker.ip, everybodyIP, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 2})
			})}),
		Entry("to the guests' network as a whole", attempt{reason: "destination",
			forged: one(func() []byte { return ping(attacker.mac, attacker.ip, broadcastIP) })}),
		Entry("to a group", attempt{reason: "destination",
			forged: one(func() []byte {
				return frame(ether(attacker.mac, []byte{1, 0, 0x5e, 0, 0, 251}, layers.EthernetTypeIPv4),
					ip4(attacker.ip, groupIP, layers.IPProtocolUDP), &layers.UDP{SrcPort: 5353, DstPort: 5353})
			})}),
		Entry("to the victim's MAC", attempt{reason: "destination", honest: pingOf, seen: echoed,
			forged: one(func() []byte {
				return frame(ether(attacker.mac, victim.mac, layers.EthernetTypeIPv4),
					ip4(attacker.ip, victim.ip, layers.IPProtocolICMPv4), echo())
			})}),
		Entry("to the host's loopback", attempt{reason: "destination",
			forged: one(func() []byte { return ping(attacker.mac, attacker.ip, loopbackIP) })}),
		Entry("with a checksum that is wrong", attempt{reason: "malformed", honest: pingOf, seen: echoed,
			forged: one(func() []byte {
				f := ping(attacker.mac, attacker.ip, gatewayIP)
				f[24] ^= 1
				return f
			})}),
	)

	It("are dropped when they are longer than the wire takes, and when they are many", func(ctx context.Context) {
		Expect(attacker.SetMTU(ctx, 9000)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(attacker.SetMTU(ctx, 1500)).To(Succeed()) })
		before := attacker.dropped()
		long := func(n int) []byte {
			return frame(toGateway(attacker.mac), ip4(attacker.ip, gatewayIP, layers.IPProtocolICMPv4), echo(),
				gopacket.Payload(make([]byte, n)))
		}
		Expect(attacker.Send(ctx, long(1473))).To(Succeed())
		Expect(attacker.Send(ctx, long(1472))).To(Succeed())
		attacker.awaitFrame(ctx, "the answer to the longest that is allowed", isEcho(gatewayIP))
		expectDropped(before, "oversize", 1)

		before = attacker.dropped()
		const times = 1000
		Expect(attacker.SendTimes(ctx, times, ping(victim.mac, victim.ip, gatewayIP),
			ping(attacker.mac, attacker.ip, broadcastIP), tagged(layers.EthernetTypeDot1Q, 1))).To(Succeed())
		attacker.heard = nil
		Expect(attacker.Send(ctx, pingOf()...)).To(Succeed())
		attacker.awaitFrame(ctx, "the answer after the flood", isEcho(gatewayIP))
		before["spoofed-mac"] += times
		before["destination"] += times
		expectDropped(before, "vlan", times)
	})

	It("get the attacker no other address than its own", func(ctx context.Context) {
		before := attacker.dropped()
		Expect(attacker.Send(ctx, dhcp(attacker.mac, noIP, everybodyIP, attacker.mac, layers.DHCPMsgTypeDiscover, noIP,
			layers.NewDHCPOption(layers.DHCPOptClientID, append([]byte{1}, victim.mac...)),
			layers.NewDHCPOption(layers.DHCPOptRequestIP, victim.ip.AsSlice())))).To(Succeed())
		attacker.awaitFrame(ctx, "an offer", isOffer(attacker.ip))
		Expect(attacker.has(isOffer(victim.ip))).To(BeFalse())
		Expect(attacker.dropped()).To(Equal(before))
	})
})
