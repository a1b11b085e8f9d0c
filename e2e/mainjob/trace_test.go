package mainjob

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

var _ = Describe("What followed from a request", Label("vm"), func() {
	It("is one trace, from the call to the guest that serves", func(ctx context.Context) {
		cert := cloud.Upload(pki.P256, "trace.example.test")
		lb := cloud.CreateLoadBalancer(backends, twin.HTTPS(8447, cert.ARN))
		client := lb.Listener(8447, cert.CA, "trace.example.test")
		Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
		vm := lb.Machine().ID

		var told []journal.Event
		Eventually(func(g Gomega) {
			told = traceOf(ctx, g, lb.Name)
			g.Expect(find(told, "guest.milestone", vm, "stage", "serving")).NotTo(BeNil())
			g.Expect(find(told, "tls.handshake", vm, "listener", "8447")).NotTo(BeNil())
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed())

		By("telling every step in an order that fits cause and effect")
		created := find(told, "api.request", "elasticloadbalancing:CreateLoadBalancer")
		run := find(told, "node.message", vm, "message", "run")
		serving := find(told, "guest.milestone", vm, "stage", "serving")
		// What a node tells of its guests comes a moment later than what they ask the cloud for: two orders hold.
		for name, steps := range map[string][]*journal.Event{
			"the cloud": {
				find(told, "policy.decided", "", "action", "elasticloadbalancing:CreateLoadBalancer"),
				find(told, "store.write", "elb-"),
				find(told, "placement.chosen", vm),
				run,
				find(told, "delivery.granted", "", "instance", vm),
				serving,
				find(told, "tls.handshake", vm),
			},
			"the guest": {
				run,
				find(told, "metadata.request", vm),
				find(told, "guest.milestone", vm, "stage", "credentials"),
				serving,
			},
		} {
			last := uint64(0)
			for i, ev := range steps {
				Expect(ev).NotTo(BeNil(), "step %d of %s is missing:\n%s", i, name, lines(told))
				Expect(ev.Seq).To(BeNumerically(">", last), "step %d of %s, %s %s:\n%s", i, name, ev.Kind, ev.Subject,
					lines(told))
				last = ev.Seq
			}
		}
		Expect(created).NotTo(BeNil())
		for _, kind := range []string{"machine.state", "instance.state"} {
			Expect(find(told, kind, "")).NotTo(BeNil(), "%s in\n%s", kind, lines(told))
		}
		if cloud.Mode != "sim" {
			Expect(find(told, "qmp.event", vm)).NotTo(BeNil(), "QEMU's events in\n%s", lines(told))
		}

		By("telling the guest's calls as steps of the guest's own")
		launched := find(told, "placement.chosen", vm)
		called := find(told, "api.request", "iam:DownloadServerCertificate")
		Expect(called).NotTo(BeNil())
		Expect(called.Parent).To(Equal(launched.Span))
		Expect(launched.Parent).NotTo(BeEmpty())
	})
})

// traceOf asks the command for the trace of the request that made a load balancer.
func traceOf(ctx context.Context, g Gomega, name string) []journal.Event {
	all, err := cloud.Events()
	g.Expect(err).NotTo(HaveOccurred())
	trace := ""
	for _, ev := range all {
		if ev.Subject == "elasticloadbalancing:CreateLoadBalancer" && strings.Contains(fmt.Sprint(ev.Attributes), name) {
			trace = ev.Trace
		}
	}
	g.Expect(trace).To(HaveLen(32))
	code, out, stderr := cloud.Command(ctx, "events", "--json", "--trace", trace)
	g.Expect(code).To(BeZero(), stderr)
	var told []journal.Event
	for line := range strings.Lines(out) {
		var ev journal.Event
		g.Expect(json.Unmarshal([]byte(line), &ev)).To(Succeed())
		g.Expect(ev.Trace).To(Equal(trace))
		told = append(told, ev)
	}
	return told
}

// find returns the first event of a kind whose subject begins so, and which has an attribute if one is named.
func find(events []journal.Event, kind, subject string, attribute ...string) *journal.Event {
	for i, ev := range events {
		if ev.Kind == kind && strings.HasPrefix(ev.Subject, subject) &&
			(len(attribute) == 0 || ev.Attributes[attribute[0]] == attribute[1]) {
			return &events[i]
		}
	}
	return nil
}

func lines(events []journal.Event) string {
	var b strings.Builder
	for _, ev := range events {
		fmt.Fprintf(&b, "%6d %s %s %s %v\n", ev.Seq, ev.Time.Format(time.StampMilli), ev.Kind, ev.Subject, ev.Attributes)
	}
	return b.String()
}
