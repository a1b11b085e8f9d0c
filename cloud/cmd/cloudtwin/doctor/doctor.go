// Package doctor looks a machine over before a cloud is started on it: what guests need is there or not, and what to do
// about it. Facts are gathered once (gather.go); each check is a small function of them, without side effects
// (checks.go, machine.go).
package doctor

import (
	"fmt"

	"github.com/cloudtwin/cloudtwin/node"
)

// Status is a check's verdict.
type Status string

// The verdicts. Warn means that the main job can run, with less comfort; Fail that it cannot.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is one line of the report.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do about it; empty when there is nothing to do
}

// check looks at one thing.
type check struct {
	name string
	// real says that only guests with a kernel need it: simulated ones do without.
	real bool
	look func(Facts) verdict
}

type verdict struct {
	status        Status
	found, advice string
}

func ok(format string, args ...any) verdict { return verdict{OK, fmt.Sprintf(format, args...), ""} }

func warn(advice, format string, args ...any) verdict {
	return verdict{Warn, fmt.Sprintf(format, args...), advice}
}

func fail(advice, format string, args ...any) verdict {
	return verdict{Fail, fmt.Sprintf(format, args...), advice}
}

// checks are all rows of the report, in their order.
func checks() []check {
	return []check{
		{"qemu", true, checkQEMU},
		{"firmware", true, checkFirmware},
		{"libvirt", true, checkLibvirt},
		{"accelerator", true, checkAccelerator},
		{"images", true, checkImages},
		{"kernel package", true, checkKernelPackage},
		{"memory", false, checkMemory},
		{"disk of the state", false, checkStateDisk},
		{"disk of the cache", true, checkCacheDisk},
		{"memory folder", false, checkMedia},
		{"socket paths", false, checkSockets},
		{"open files", false, checkOpenFiles},
		{"loopback", false, checkLoopback},
		{"low ports", false, checkLowPorts},
		{"docker", true, checkDocker},
	}
}

// Examine returns a finding for each check. What only real guests need is no failure for simulated ones.
func Examine(f Facts) []Finding {
	var found []Finding
	for _, c := range checks() {
		v := c.look(f)
		if c.real && f.Guests == node.GuestsSim && v.status == Fail {
			v.status, v.advice = Warn, "simulated guests need none; for others: "+v.advice
		}
		found = append(found, Finding{Check: c.name, Status: v.status, Found: v.found, Advice: v.advice})
	}
	return found
}
