package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Word is the kernel's word by which a guest knows that it is a template, or a copy of one: it waits for its medium
// before it does anything that two guests must not have in common.
const Word = "cloudtwin.template"

// ReadyStage is the milestone that a template's guest tells when it waits for its medium.
const ReadyStage = "ready-for-medium"

// machinePrefix begins the ids of the machines that become templates.
const machinePrefix = "template-"

// MAC is the address of every template's network card. A fork sets its own.
const MAC = "02:00:00:00:00:01"

// keyBytes is how much of the hash names a template.
const keyBytes = 16

// IsMachine says whether a machine of that id is one that was to become a template.
func IsMachine(id string) bool { return strings.HasPrefix(id, machinePrefix) }

// Shape is what all forks of a template have in common.
type Shape struct {
	Flavour string // the image's name: lbvm, web
	Digest  string // the image's: sha256:hex of its manifest
	Kernel  string // absolute path of the image's kernel
	Initrd  string // absolute path of its initramfs
	Cmdline string // as the image says, without Word
	// MemoryMB and VCPUs as in hypervisor.Spec.
	MemoryMB, VCPUs int
	// Display as in hypervisor.Spec.
	Display bool
}

func (s Shape) validate() error {
	if s.Flavour == "" || s.Digest == "" || s.Kernel == "" || s.Initrd == "" || s.MemoryMB <= 0 {
		return errors.New("shape of a template: Flavour, Digest, Kernel, Initrd and MemoryMB are required")
	}
	return nil
}

// Spec returns what a template and its forks have in common as the driver wants it. ID, Medium, ConsoleLog and NIC are
// the caller's.
func (s Shape) Spec() hypervisor.Spec {
	return hypervisor.Spec{
		Kernel: s.Kernel, Initrd: s.Initrd, Cmdline: strings.TrimSpace(s.Cmdline + " " + Word), MemoryMB: s.MemoryMB,
		VCPUs: s.VCPUs, Display: s.Display,
	}
}

// key names the template of a shape on a ground: what else would give another machine gives another key.
func (s Shape) key(ground string) (string, error) {
	// Where the image lies makes no difference, and Digest covers what is in it.
	parts := []any{format, ground, s.Digest, s.Spec().Cmdline, s.MemoryMB, max(s.VCPUs, 1)}
	if s.Display {
		parts = append(parts, hypervisor.DisplayWord)
	}
	data, err := json.Marshal(parts)
	if err != nil {
		return "", fmt.Errorf("name the template: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:keyBytes]), nil
}

func validKey(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == keyBytes && hex.EncodeToString(b) == name
}
