// Package replay proves that what a bundle tells of can be done again: a recording of a cloud with faults is played on
// simulated guests, and where it comes out otherwise is found. It does what cloud/cmd/cloudtwin/reproduce.md describes.
package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/node"
)

func TestReplay(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "replay")
}

var program string

var _ = twin.CheckMode()

var _ = BeforeSuite(func() { program = twin.Program() })

// ran is what a command did.
type ran struct {
	Code           int
	Stdout, Stderr string
}

func run(ctx context.Context, args ...string) ran {
	GinkgoHelper()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		Expect(err).NotTo(HaveOccurred(), "run %v", args)
	}
	return ran{Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
}

// side and report are what 'cloudtwin replay --json' prints.
type side struct {
	Event uint64
	Text  string
}

type report struct {
	Same     bool
	Recorded struct{ Calls, Faults int }
	Replayed struct {
		Calls, Faults int
		Guests        string
	}
	Speedup         float64
	Tracks          int
	FirstDifference *struct {
		Track              string
		Recorded, Replayed *side
	}
	NotPlayed []struct{ What, Reason string }
}

// play plays on simulated guests.
func play(ctx context.Context, code int, args ...string) report {
	GinkgoHelper()
	return playOn(ctx, node.GuestsSim, code, args...)
}

func playOn(ctx context.Context, guests node.GuestMode, code int, args ...string) report {
	GinkgoHelper()
	args = append([]string{"replay", "--json", "--guests", string(guests)}, args...)
	if images := os.Getenv("CLOUDTWIN_IMAGES"); images != "" {
		args = append(args, "--images", images)
	}
	r := run(ctx, args...)
	Expect(r.Code).To(Equal(code), "%s\n%s", r.Stdout, r.Stderr)
	var out report
	Expect(json.Unmarshal([]byte(r.Stdout), &out)).To(Succeed(), r.Stdout)
	return out
}
