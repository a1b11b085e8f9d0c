package spoof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/spoof/station"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// The metadata service's headers.
const (
	tokenHeader    = "X-aws-ec2-metadata-token"
	lifetimeHeader = "X-aws-ec2-metadata-token-ttl-seconds"

	metadataURL = "http://169.254.169.254"
	tokenPath   = "/latest/api/token"
	credentials = "iam/security-credentials/"
)

// asks has a guest's kernel ask a server; header is names and values in turn.
func (g *guest) asks(ctx context.Context, method, url string, header ...string) station.Answer {
	GinkgoHelper()
	q := station.Question{Method: method, URL: url, Header: http.Header{}}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			q.Host = header[i+1]
			continue
		}
		q.Header.Add(header[i], header[i+1])
	}
	a, err := g.Ask(ctx, q)
	Expect(err).NotTo(HaveOccurred())
	return a
}

// metadata asks for an item of the guest's own metadata.
func (g *guest) metadata(ctx context.Context, item string, header ...string) station.Answer {
	GinkgoHelper()
	return g.asks(ctx, http.MethodGet, metadataURL+"/latest/meta-data/"+item, header...)
}

// token opens a session with the metadata service.
func (g *guest) token(ctx context.Context) (string, error) {
	a, err := g.Ask(ctx, station.Question{Method: http.MethodPut, URL: metadataURL + tokenPath,
		Header: http.Header{lifetimeHeader: {"600"}}})
	if err == nil && a.Status != http.StatusOK {
		err = errors.New(a.Error)
	}
	return a.Body, err
}

func (g *guest) mustToken(ctx context.Context) string {
	GinkgoHelper()
	token, err := g.token(ctx)
	Expect(err).NotTo(HaveOccurred())
	return token
}

// identity is whose credentials an answer holds, as the cloud sees it.
func identity(ctx context.Context, a station.Answer) string {
	GinkgoHelper()
	Expect(a.Status).To(Equal(http.StatusOK))
	var c struct{ AccessKeyID, SecretAccessKey, Token string }
	Expect(json.Unmarshal([]byte(a.Body), &c)).To(Succeed())
	who, err := sts.NewFromConfig(cloud.As(c.AccessKeyID, c.SecretAccessKey, c.Token)).
		GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	Expect(err).NotTo(HaveOccurred())
	return aws.ToString(who.Arn)
}

// status matches an answer's.
func status(code int) OmegaMatcher { return HaveField("Status", code) }

var _ = Describe("The metadata service", Label("vm", "slow", twin.NeedsKernel), func() {
	It("tells a guest its own role and credentials, whoever it says it is", func(ctx context.Context) {
		Expect(attacker.metadata(ctx, credentials).Body).To(Equal(attacker.role))
		Expect(identity(ctx, attacker.metadata(ctx, credentials+attacker.role))).
			To(HaveSuffix("assumed-role/" + attacker.role + "/" + attacker.id))
		for _, role := range []string{victim.role, server.role, balancerRole(ctx), "../" + victim.role, victim.id} {
			Expect(attacker.metadata(ctx, credentials+role)).To(status(http.StatusNotFound), role)
		}
		for name, value := range map[string]string{
			"X-Forwarded-For": victim.ip.String(), "X-Real-Ip": victim.ip.String(), "Forwarded": "for=" + victim.ip.String(),
			"X-Instance-Id": victim.id, "X-Aws-Ec2-Instance-Id": victim.id, "Via": "1.1 " + victim.id,
			"Host": victim.ip.String(), "Origin": "http://" + victim.ip.String(), "Referer": "http://" + victim.id,
		} {
			answer := attacker.metadata(ctx, "instance-id", name, value)
			Expect(answer.Body).To(Equal(attacker.id), name+": "+value)
		}
		Expect(identity(ctx, victim.metadata(ctx, credentials+victim.role, tokenHeader, victim.mustToken(ctx)))).
			To(HaveSuffix("assumed-role/"+victim.role+"/"+victim.id), "the control: the victim's own")
	})

	It("wants a token where it was told to, and the guest's own", func(ctx context.Context) {
		own, stolen := attacker.mustToken(ctx), victim.mustToken(ctx)
		Expect(victim.metadata(ctx, credentials)).To(status(http.StatusUnauthorized))
		Expect(victim.metadata(ctx, credentials, tokenHeader, own)).To(status(http.StatusUnauthorized))
		Expect(attacker.metadata(ctx, credentials, tokenHeader, stolen)).To(status(http.StatusUnauthorized))
		Expect(attacker.metadata(ctx, credentials, tokenHeader, own)).To(status(http.StatusOK))
		Expect(victim.metadata(ctx, credentials, tokenHeader, stolen)).To(status(http.StatusOK))
	})

	It("gives no token through a proxy, to other methods, or without a lifetime", func(ctx context.Context) {
		ask := func(method string, header ...string) station.Answer {
			return attacker.asks(ctx, method, metadataURL+tokenPath, header...)
		}
		Expect(ask("PUT", lifetimeHeader, "60")).To(status(http.StatusOK), "the control")
		for _, header := range [][]string{
			{"X-Forwarded-For", attacker.ip.String()}, {"x-forwarded-for", ""}, {"X-FORWARDED-FOR", "127.0.0.1, ::1"},
		} {
			Expect(ask("PUT", append(header, lifetimeHeader, "60")...)).To(status(http.StatusForbidden), "%q", header)
		}
		for _, method := range []string{"GET", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
			Expect(ask(method, lifetimeHeader, "60")).To(status(http.StatusMethodNotAllowed), method)
		}
		for _, lifetime := range []string{"", "0", "-1", "21601", "1h"} {
			Expect(ask("PUT", lifetimeHeader, lifetime)).To(status(http.StatusBadRequest), "%q", lifetime)
		}
		Expect(attacker.asks(ctx, "POST", metadataURL+"/latest/meta-data/"+credentials+attacker.role)).
			To(status(http.StatusMethodNotAllowed))
	})

	It("sends a token no further than the hop limit", func(ctx context.Context) {
		hops := func(of *guest, reply string) []uint8 {
			var found []uint8
			of.awaitFrame(ctx, reply, func(p gopacket.Packet) bool {
				ip, isIP := p.NetworkLayer().(*layers.IPv4)
				segment, isTCP := p.TransportLayer().(*layers.TCP)
				is := isIP && isTCP && ip.SrcIP.Equal(metadataIP.AsSlice()) && strings.Contains(string(segment.Payload), reply)
				if is {
					found = append(found, ip.TTL)
				}
				return is
			})
			return found
		}
		server.hear(ctx)
		server.heard = nil
		Expect(hops(attacker, attacker.mustToken(ctx))).To(HaveEach(uint8(1)))
		Expect(hops(server, server.mustToken(ctx))).To(HaveEach(uint8(3)))
		Expect(attacker.metadata(ctx, "instance-id").Body).To(Equal(attacker.id))
		Expect(hops(attacker, attacker.id)).To(HaveEach(uint8(64)))
	})

	It("gives no token to whom a guest routes for, unless its hop limit is higher", func(ctx context.Context) {
		through := func(router, client *guest) (url string) {
			const at = 8080
			Expect(router.Route(ctx, station.Route{At: at, To: addrPort(metadataIP, 80), Client: client.ip})).To(Succeed())
			DeferCleanup(func(ctx context.Context) { Expect(router.Route(ctx, station.Route{})).To(Succeed()) })
			return fmt.Sprintf("http://%s:%d", router.ip, at)
		}
		url := through(attacker, victim)
		Expect(victim.asks(ctx, "GET", url+"/latest/meta-data/instance-id").Body).To(Equal(attacker.id),
			"the control: the way is open, and without tokens the service is as far as ever")
		routed, err := attacker.Routed(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(routed.Expired).To(BeZero())
		answer, err := victim.Ask(ctx, station.Question{Method: "PUT", URL: url + tokenPath, Timeout: time.Second,
			Header: http.Header{lifetimeHeader: {"60"}}})
		Expect(err).NotTo(HaveOccurred())
		Expect(answer).To(status(0), "an answer to who is two hops away")
		Expect(attacker.Routed(ctx)).To(HaveField("Expired", BeNumerically(">", 0)))

		By("asking for more on the connection, behind whose answers the token's would be sent again")
		ask := func(requests ...string) string {
			heard, err := victim.Talk(ctx, station.Talk{To: addrPort(attacker.ip, 8080), Timeout: 3 * time.Second,
				Send: strings.Join(requests, "")})
			Expect(err).NotTo(HaveOccurred())
			return heard
		}
		put := "PUT " + tokenPath + " HTTP/1.1\r\nHost: metadata\r\n" + lifetimeHeader + ": 77\r\n\r\n"
		get := "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n\r\n"
		Expect(ask(get)).To(HaveSuffix(attacker.id), "the control")
		Expect(ask(put, get)).To(BeEmpty(), "answers to who is two hops away")

		By("taking the token of a guest whose hop limit lets it travel")
		Expect(attacker.Route(ctx, station.Route{})).To(Succeed())
		url = through(server, attacker)
		Expect(attacker.asks(ctx, "GET", url+"/latest/meta-data/instance-id")).To(status(http.StatusUnauthorized))
		token := attacker.asks(ctx, "PUT", url+tokenPath, lifetimeHeader, "60")
		Expect(token).To(status(http.StatusOK))
		Expect(attacker.asks(ctx, "GET", url+"/latest/meta-data/instance-id", tokenHeader, token.Body).Body).
			To(Equal(server.id))
		Expect(attacker.metadata(ctx, "instance-id", tokenHeader, token.Body)).To(status(http.StatusUnauthorized),
			"a token is one guest's wherever it travelled")
		Expect(server.Route(ctx, station.Route{})).To(Succeed())
	})

	It("answers nobody who forges every segment of a request", func(ctx context.Context) {
		for _, as := range []*guest{victim, balancer} {
			before := attacker.dropped()
			request := "GET /latest/meta-data/" + credentials + " HTTP/1.0\r\n\r\n"
			head := func() *layers.IPv4 { return ip4(as.ip, metadataIP, layers.IPProtocolTCP) }
			Expect(attacker.Send(ctx, syn(attacker.mac, as.ip, metadataIP, 80),
				frame(toGateway(attacker.mac), head(), &layers.TCP{SrcPort: synPort, DstPort: 80, Seq: 8, Ack: 1, ACK: true,
					PSH: true, Window: 65535}, gopacket.Payload(request)))).To(Succeed())
			Expect(attacker.Send(ctx, append(pingOf(), goodbye())...)).To(Succeed())
			attacker.awaitFrame(ctx, "the answer to its own ping", isEcho(gatewayIP))
			victim.awaitFrame(ctx, "the attacker's last word", isGoodbye)
			expectDropped(before, "spoofed-ip", 2)
			Expect(attacker.has(func(p gopacket.Packet) bool {
				ip, isIP := p.NetworkLayer().(*layers.IPv4)
				return isIP && ip.SrcIP.Equal(metadataIP.AsSlice())
			})).To(BeFalse())
			Expect(surprises(func(gopacket.Packet) bool { return false })).To(BeEmpty())
		}
	})
})

// balancerRole is the role of the load-balancer VM.
func balancerRole(ctx context.Context) string {
	GinkgoHelper()
	found, err := cloud.ELB.DescribeLoadBalancers(ctx, nil)
	Expect(err).NotTo(HaveOccurred())
	Expect(found.LoadBalancerDescriptions).To(HaveLen(1))
	me, err := cloud.STS.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	Expect(err).NotTo(HaveOccurred())
	return "loadbalancer-vm-" + aws.ToString(me.Account) + "-" +
		aws.ToString(found.LoadBalancerDescriptions[0].LoadBalancerName)
}
