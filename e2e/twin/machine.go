package twin

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
)

// Machine is one guest, with what a spec can do to it and wait for. Each verb returns when the cloud has taken
// the order; what comes of it is waited for.
type Machine struct {
	ID   string
	twin *Twin
	from int // where in its console the waiting begins: after Reboot
}

// Machine is the guest of an instance, of whatever account.
func (t *Twin) Machine(id string) *Machine { return &Machine{ID: id, twin: t} }

// Launch starts a guest of an image, such as "web", with user data that may be empty. It is terminated after the spec.
func (t *Twin) Launch(image, userData string) *Machine {
	ginkgo.GinkgoHelper()
	ctx := context.Background()
	images, err := t.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "list images")
	at := slices.IndexFunc(images.Images, func(i ec2types.Image) bool { return aws.ToString(i.Name) == image })
	gomega.Expect(at).NotTo(gomega.Equal(-1), "no image is called %s", image)
	input := &ec2.RunInstancesInput{ImageId: images.Images[at].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
	if image == webImage {
		input.KeyName = t.logIn()
	}
	if userData != "" {
		input.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte(userData)))
	}
	out, err := t.EC2.RunInstances(ctx, input)
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "start a guest of %s", image)
	m := t.Machine(aws.ToString(out.Instances[0].InstanceId))
	t.cleanup(m.Stop)
	return m
}

// Stop terminates the instance, as a user does who calls TerminateInstances: its guest is asked to power off, and the
// instance is not started again. Crash, Pause and Reboot leave it there.
func (m *Machine) Stop() {
	ginkgo.GinkgoHelper()
	m.twin.Terminate(m.ID)
}

// Crash ends the guest as a loss of power does. Its cloud finds out by itself.
func (m *Machine) Crash() {
	ginkgo.GinkgoHelper()
	m.suffer(fault.GuestKill, nil)
}

// Panic makes the guest's kernel panic, which its console says. A kernel that is struck while it writes to its console
// may hang instead: wait for the guest's last word, such as a web guest's milestone ssh.
func (m *Machine) Panic() {
	ginkgo.GinkgoHelper()
	m.suffer(fault.GuestPanic, nil)
}

// Pause holds the guest's processors until Resume, or until the spec ends.
func (m *Machine) Pause() {
	ginkgo.GinkgoHelper()
	m.suffer(fault.GuestPause, nil)
}

// Resume ends Pause.
func (m *Machine) Resume() {
	ginkgo.GinkgoHelper()
	m.recover(fault.GuestPause)
}

// BlockNetwork drops every frame from and to the guest until UnblockNetwork, or until the spec ends.
func (m *Machine) BlockNetwork() {
	ginkgo.GinkgoHelper()
	m.suffer(fault.WirePartition, nil)
}

// UnblockNetwork ends BlockNetwork.
func (m *Machine) UnblockNetwork() {
	ginkgo.GinkgoHelper()
	m.recover(fault.WirePartition)
}

// EjectMedium empties the guest's floppy drive until InsertMedium, or until the spec ends.
func (m *Machine) EjectMedium() {
	ginkgo.GinkgoHelper()
	m.suffer(fault.MediumEject, nil)
}

// InsertMedium puts the guest's own medium back into its drive.
func (m *Machine) InsertMedium() {
	ginkgo.GinkgoHelper()
	m.recover(fault.MediumEject)
}

// Suffer has any kind of fault happen to the guest until Recover, or until the spec ends. with are the kind's
// parameters; package cloud/fault has the list.
func (m *Machine) Suffer(kind fault.Kind, with map[string]string) {
	ginkgo.GinkgoHelper()
	m.suffer(kind, with)
}

// Recover ends a fault that Suffer began.
func (m *Machine) Recover(kind fault.Kind) {
	ginkgo.GinkgoHelper()
	m.recover(kind)
}

// faultID names the fault of a kind that a guest suffers by order of its spec.
func (m *Machine) faultID(kind fault.Kind) string { return "spec." + string(kind) + "." + m.ID }

func (m *Machine) suffer(kind fault.Kind, with map[string]string) {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	id := m.faultID(kind)
	_, err := m.twin.Operator.FaultAdd(ctx, fault.Fault{ID: id, Kind: kind, Target: m.ID, With: with})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "have %s happen to %s", kind, m.ID)
	m.twin.cleanup(func() {
		// That it was cleared by the spec, or was over in a moment, is no fault.
		_ = m.twin.Operator.FaultClear(context.Background(), id)
	})
}

func (m *Machine) recover(kind fault.Kind) {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	gomega.Expect(m.twin.Operator.FaultClear(ctx, m.faultID(kind))).To(gomega.Succeed(), "end %s of %s", kind, m.ID)
}

// Console is what the guest wrote so far; after Reboot, since then.
func (m *Machine) Console() string {
	text := m.wholeConsole()
	return text[min(m.from, len(text)):]
}

func (m *Machine) wholeConsole() string {
	text, err := m.twin.Console(context.Background(), m.ID)
	if err != nil {
		return ""
	}
	return text
}

// WaitForConsole returns when a line of the console matches a pattern, a regular expression.
func (m *Machine) WaitForConsole(pattern string) {
	ginkgo.GinkgoHelper()
	expression := regexp.MustCompile("(?m)" + pattern)
	m.eventually(func() bool { return expression.MatchString(m.Console()) }, "its console shows %s", pattern)
}

// WaitForMilestone returns when the guest has reached a stage, such as "serving", now or before.
func (m *Machine) WaitForMilestone(stage string) {
	ginkgo.GinkgoHelper()
	m.eventually(func() bool { return len(Stages(m.Console(), stage)) > 0 }, "it reaches milestone %s", stage)
}

// WaitForState returns when the instance is in a state: pending, running, shutting-down, terminated, failed.
func (m *Machine) WaitForState(state string) {
	ginkgo.GinkgoHelper()
	m.eventually(func() bool {
		now, err := m.twin.State(context.Background(), m.ID)
		return err == nil && now == state
	}, "it is %s", state)
}

// eventually waits as long as guests of this kind may take to start.
func (m *Machine) eventually(holds func() bool, what, word string) {
	ginkgo.GinkgoHelper()
	gomega.Eventually(holds).WithTimeout(m.twin.BootTimeout()).WithPolling(pollInterval).Should(gomega.BeTrue(),
		func() string {
			state, _ := m.twin.State(context.Background(), m.ID)
			stage, _ := m.twin.Stage(context.Background(), m.ID)
			return fmt.Sprintf("waited for %s that "+what+"; it is %q at stage %q", m.ID, word, state, stage)
		})
}
