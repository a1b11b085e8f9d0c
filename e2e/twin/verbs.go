package twin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"
	"github.com/onsi/gomega"

	ginkgo "github.com/onsi/ginkgo/v2"
)

// Reboot reboots the guest, as its user does or, when it is no user's, as the operator does. It returns when the node
// has started its machine anew; WaitForMilestone and WaitForConsole then look only at what the guest says from then on.
func (m *Machine) Reboot() {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), m.twin.BootTimeout())
	defer cancel()
	before, said := m.reboots(), len(m.wholeConsole())
	_, err := m.twin.EC2.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{m.ID}})
	if fault, ok := errors.AsType[smithy.APIError](err); ok && fault.ErrorCode() == "InvalidInstanceID.NotFound" {
		err = m.twin.Operator.RebootGuest(ctx, m.ID)
	}
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "reboot %s", m.ID)
	m.eventually(func() bool { return m.reboots() > before }, "its machine is started %s", "anew")
	m.from = said
}

// reboots is how often the guest's machine was started anew.
func (m *Machine) reboots() int {
	starts, err := m.twin.Milestones(m.ID, "machine-started")
	if err != nil || len(starts) == 0 {
		return 0
	}
	n, err := strconv.Atoi(starts[len(starts)-1].Attributes["reboots"])
	if err != nil {
		return 0 // its first start
	}
	return n
}

// Screenshot is what the guest's display shows now. The twin must be started with Displays.
func (m *Machine) Screenshot() image.Image {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	shot, err := m.twin.Operator.Screenshot(ctx, m.ID)
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "take a picture of the display of %s", m.ID)
	picture, err := png.Decode(bytes.NewReader(shot))
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "read the picture of the display of %s", m.ID)
	return picture
}

// ShowsSomething says whether a picture has anything but its background: a display that was never written to is of one
// colour.
func ShowsSomething(picture image.Image) bool { return len(inked(picture)) > 1 }

// inked are the colours of a picture, at most two of them.
func inked(picture image.Image) map[string]bool {
	colours := map[string]bool{}
	bounds := picture.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			if colours[fmt.Sprint(r, g, b)] = true; len(colours) > 1 {
				return colours
			}
		}
	}
	return colours
}

// Displays has the guests of the image web get a display each, for screenshots.
func Displays() Option {
	return func(t *Twin) { t.nodeFlags = append(t.nodeFlags, "--displays") }
}
