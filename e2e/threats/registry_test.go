package threats

import (
	"os"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// threat is a line of the design's list "Threats that the suite must show repelled", or one of our own.
type threat string

const (
	anotherLB         threat = "another LB's LBVM"
	anotherLBCert     threat = "another instance's LBCERT with this role"
	anotherRole       threat = "this LBCERT with another role"
	stale             threat = "stale request"
	future            threat = "future request"
	replayed          threat = "replayed request"
	alteredARN        threat = "altered ARN"
	alteredTimestamp  threat = "altered timestamp"
	alteredNonce      threat = "altered nonce"
	answerAltered     threat = "answer altered"
	answerSwapped     threat = "answer swapped with another ARN's"
	answerReplayed    threat = "answer replayed to a later request"
	certSelfSigned    threat = "LBCERT self-signed"
	certCA            threat = "LBCERT CA:TRUE"
	certExpired       threat = "LBCERT expired"
	certRevoked       threat = "LBCERT revoked"
	certIssuer        threat = "LBCERT wrong issuer"
	grantRemoved      threat = "grant removed"
	listenerRemoved   threat = "listener removed"
	floppySwapped     threat = "floppy swapped between two guests"
	floppyAltered     threat = "floppy altered"
	floppyTruncated   threat = "floppy truncated"
	floppyErrors      threat = "floppy read errors"
	floppyMissing     threat = "floppy missing"
	floppyLate        threat = "floppy late"
	sealedForNode     threat = "credential sealed for another node"
	sealedForInstance threat = "credential sealed for another instance"
	keywordByUser     threat = "a user account that uses the keyword"
	paddingProbes     threat = "padding probes"
	othersInstance    threat = "a node that asks for an instance that is not its own"
	addressForged     threat = "a guest that forges another guest's IP or MAC to read its role credentials"
	// Not of the design's list.
	notAnLBVM       threat = "a caller that is no LBVM"
	httpSignature   threat = "a request whose HTTP signature does not hold"
	requestAltered  threat = "a request whose signature or form was altered"
	downgrade       threat = "a request taken down to profile 1"
	certOtherwise   threat = "an LBCERT that is wrong otherwise"
	grantByUser     threat = "a user who grants the action"
	falseNode       threat = "a node that lies"
	enrolmentForged threat = "an enrolment that nobody asked for"
	oversize        threat = "a request larger than any"
)

// elsewhere are threats that another suite shows repelled, since they need a guest that sends raw frames: the source of
// the suite, and specs that must be in it.
var elsewhere = map[threat]struct {
	source string
	specs  []string
}{
	addressForged: {"../spoof/forged_test.go", []string{
		"from the victim's MAC", "from the victim's IP", "from the victim's MAC and IP",
		"a connection to the metadata service as the victim",
		"a connection to the metadata service as the victim, MAC and all",
		"an ARP question as the victim", "DHCP for the victim's card",
	}},
}

// designed is the design's list, in its order (key-delivery.md). The search for keys after a run, which is the last of
// it, is every suite's.
var designed = []threat{
	anotherLB, anotherLBCert, anotherRole, stale, future, replayed, alteredARN, alteredTimestamp, alteredNonce,
	answerAltered, answerSwapped, answerReplayed, certSelfSigned, certCA, certExpired, certRevoked, certIssuer,
	grantRemoved, listenerRemoved, floppySwapped, floppyAltered, floppyTruncated, floppyErrors, floppyMissing, floppyLate,
	sealedForNode, sealedForInstance, addressForged, keywordByUser, paddingProbes, othersInstance,
}

// leastSpecs is how many attacks the suite must have.
const leastSpecs = 40

// shown counts the specs of each threat while Ginkgo builds the tree of specs.
var shown = map[threat]int{}

// repels labels a spec with the guards that it leans on, and notes which threat it shows repelled.
func repels(t threat, guards ...string) Labels {
	shown[t]++
	labels := Labels{}
	for _, guard := range guards {
		labels = append(labels, "guard-"+guard)
	}
	return labels
}

var _ = Describe("The suite", Label(twin.NeedsSim), func() {
	It("has a spec for each threat of the design, and enough of them", func() {
		all := 0
		for _, t := range designed {
			other, is := elsewhere[t]
			if !is {
				Expect(shown).To(HaveKey(t))
				continue
			}
			source, err := os.ReadFile(other.source)
			Expect(err).NotTo(HaveOccurred(), "the suite that shows %s repelled", t)
			for _, spec := range other.specs {
				Expect(string(source)).To(ContainSubstring("Entry(%q, attempt{", spec), "%s: %s", other.source, t)
			}
		}
		for _, n := range shown {
			all += n
		}
		Expect(all).To(BeNumerically(">=", leastSpecs))
	})
})
