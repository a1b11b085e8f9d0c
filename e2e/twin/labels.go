package twin

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

// The labels of what a spec needs of the machine, beside those of its kind of guests (mode.go).
const (
	// NeedsKVM marks specs that only an accelerated guest shows.
	NeedsKVM = "kvm"
	// NeedsContainers marks specs that run programs in containers.
	NeedsContainers = "containers"
	// Slow marks specs that run at night: longer than 20 s.
	Slow = "slow"
)

// minutesLabel begins the labels of specs that take long.
const minutesLabel = "minutes:"

// slowFrom is from how many minutes on a spec runs at night only.
const slowFrom = 1

// Minutes marks a spec that takes about n minutes on a quiet machine with two cores: from 1 to 600. It is slow too, and
// its timeout is three times as long.
//
//	It("outlives a day", twin.Minutes(5), func(ctx SpecContext) { … })
func Minutes(n int) []any {
	if n < slowFrom || n > 600 {
		panic(fmt.Sprintf("twin.Minutes(%d): expected 1 to 600", n))
	}
	return []any{ginkgo.Label(minutesLabel+strconv.Itoa(n), Slow), ginkgo.SpecTimeout(time.Duration(3*n) * time.Minute)}
}

// MinutesOf is how long specs with these labels take, as Minutes says; 0 when it does not.
func MinutesOf(labels []string) int {
	for _, label := range labels {
		if text, ok := strings.CutPrefix(label, minutesLabel); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
				return n
			}
		}
	}
	return 0
}

// HasKVM tells whether this machine accelerates guests: a proof in a guest decides, and is remembered as nodes remember
// theirs. That /dev/kvm can be opened says nothing.
var HasKVM = sync.OnceValue(func() bool {
	emulator, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return false
	}
	proof := accel.Cached{Prover: accel.NewKVM(accel.Config{Emulator: emulator}), Dir: local.Cache(), Emulator: emulator}
	ctx, cancel := context.WithTimeout(context.Background(), proofTime)
	defer cancel()
	verdict, err := proof.Prove(ctx)
	return err == nil && verdict.Accelerator == accel.KVM
})

// proofTime bounds the proof, which takes 2 s where the processor only pretends.
const proofTime = 20 * time.Second

// hasContainers tells whether a container engine answers here.
func hasContainers() bool {
	for _, engine := range []string{"podman", "docker"} {
		if path, err := exec.LookPath(engine); err == nil && exec.Command(path, "info").Run() == nil {
			return true
		}
	}
	return false
}

// machineLacks says what this machine has not that specs with these labels need; empty when nothing.
func machineLacks(labels []string) string {
	for _, need := range []struct {
		label, instead string
		has            func() bool
	}{
		{NeedsKVM, "no guest runs accelerated here; `cloudtwin doctor` says why", HasKVM},
		{NeedsContainers, "neither podman nor docker answers; install one of them", hasContainers},
	} {
		for _, label := range labels {
			if label == need.label && !need.has() {
				return "label " + label + ": " + need.instead
			}
		}
	}
	return ""
}

// scale is how many times as long real guests may take to start as with an accelerator.
func scale() time.Duration {
	if HasKVM() {
		return 1
	}
	return emulated
}

// emulated is how many times as long everything may take on an emulated processor.
const emulated = 3
