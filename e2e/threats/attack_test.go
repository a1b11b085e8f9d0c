package threats

import (
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/explain"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// refusal is what an attack must come to: what the caller learns, and what the operator finds.
type refusal struct {
	status int
	code   string
	reason string // typed; where the front door refused, the code
	check  string // as 'cloudtwin explain' tells it
}

// because is the refusal of one of the checks 2 to 8: one code and one text for all of them.
func because(reason keydelivery.Reason) refusal {
	r := refusal{http.StatusForbidden, "NotAuthorized", string(reason), "outside the nine checks"}
	if n := reason.Check(); n != 0 {
		r.check = "check " + string(rune('0'+n)) + " of 9"
	}
	if reason == keydelivery.ReasonNoSuchCertificate {
		r.status, r.code = http.StatusBadRequest, "NoSuchEntity"
	}
	if reason == keydelivery.ReasonMalformed {
		r.status, r.code = http.StatusBadRequest, "ValidationError"
	}
	return r
}

// unsigned is a refusal of the front door (check 1).
func unsigned(status int, code string) refusal {
	return refusal{status, code, code, "HTTP signature (check 1 of a delivery)"}
}

// unread is a refusal of the front door before it looks at the signature.
func unread(status int, code string) refusal {
	return refusal{status, code, code, "form of the request (before check 1 of a delivery)"}
}

// notAuthorized is all that a caller learns of checks 2 to 8, whichever it was.
const notAuthorized = `<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type>` +
	`<Code>NotAuthorized</Code><Message>The caller is not authorized to download the server certificate.</Message>` +
	`</Error><RequestId>REQUEST</RequestId></ErrorResponse>`

// reaction bounds how long the cloud takes to see what another writes into its records, and a node's report.
const reaction = 10 * time.Second

// state is what an attack must leave alone.
type state struct {
	records   map[string]int64
	delivered int
}

func look() state {
	GinkgoHelper()
	return state{records.Snapshot(), deliveries(cloud, "")}
}

// deliveries counts the keys that were handed out to an instance, or to all.
func deliveries(t *twin.Twin, instance string) int {
	GinkgoHelper()
	events, err := t.Events()
	Expect(err).NotTo(HaveOccurred())
	n := 0
	for _, ev := range events {
		if ev.Kind == "delivery.granted" && (instance == "" || ev.Subject == instance) {
			n++
		}
	}
	return n
}

// expectRefused sends the draft and expects the refusal, and a cloud that is as it was.
func expectRefused(d *draft, want refusal) *answer {
	GinkgoHelper()
	return expectUnchanged(func() *answer { return d.send() }, want)
}

// expectUnchanged has an attack made that must be refused and leave everything as it was.
func expectUnchanged(attack func() *answer, want refusal) *answer {
	GinkgoHelper()
	before := look()
	a := attack()
	expectAnswer(a, want)
	Expect(look()).To(Equal(before), "records and deliveries after %s", a)
	if world.victim != nil {
		Expect(world.victim).To(twin.PresentCertificate(world.served))
	}
	return a
}

// expectAnswer compares what caller and operator learned.
func expectAnswer(a *answer, want refusal) {
	GinkgoHelper()
	Expect(a.status).To(Equal(want.status), "%s", a)
	Expect(a.code).To(Equal(want.code), "%s", a)
	Expect(a.body).NotTo(ContainSubstring("serverPk"))
	Expect(a.body).NotTo(ContainSubstring("PRIVATE KEY"))
	if want.code == "NotAuthorized" {
		Expect(a.without()).To(Equal(notAuthorized), "what tells the caller nothing")
	}
	e := explained(a)
	Expect(e.Denied).To(BeTrue(), "%+v", e)
	Expect(e.Reason).To(Equal(want.reason), "%+v", e)
	Expect(e.Check).To(Equal(want.check), "%+v", e)
	Expect(e.Code).To(Equal(want.code))
	Expect(e.Rule).NotTo(BeEmpty(), "what the step asks for: %+v", e)
	Expect(e.Found).NotTo(BeEmpty(), "what was found: %+v", e)
	Expect(e.Wanted).NotTo(BeEmpty(), "what would have passed: %+v", e)
}

// explained is what 'cloudtwin explain' has of an answer's request.
func explained(a *answer) explain.Explanation {
	GinkgoHelper()
	events, err := cloud.Operator.Request(background(), a.requestID)
	Expect(err).NotTo(HaveOccurred())
	e, err := explain.Of(events)
	Expect(err).NotTo(HaveOccurred(), "explain %s", a)
	return e
}

// expectGranted sends the draft and opens what comes: the party's own key.
func expectGranted(p *party, d *draft) *answer {
	GinkgoHelper()
	a := d.send()
	expectOpens(p, d, a)
	return a
}

func expectOpens(p *party, d *draft, a *answer) {
	GinkgoHelper()
	Expect(a.status).To(Equal(http.StatusOK), "%s: %+v", a, explained(a))
	opened, err := d.open(a, p.Identity.Key)
	Expect(err).NotTo(HaveOccurred())
	Expect(strings.TrimSpace(string(opened.Key))).To(Equal(strings.TrimSpace(string(p.cert.KeyPEM))), "the key")
}

// change alters a draft; nil leaves it as it is.
type change func(d *draft)

// expectRepelled makes an attack with the suite's own party, and then the control: the same with the altered thing put
// right.
func expectRepelled(attack, right change, want refusal) {
	GinkgoHelper()
	d := honest(world.mine)
	attack(d)
	expectRefused(d, want)
	control := honest(world.mine)
	if right != nil {
		right(control)
	}
	expectGranted(world.mine, control)
}
