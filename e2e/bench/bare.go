package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node/floppy"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/accel"
)

const (
	bareBoots       = 3
	bareBootTimeout = time.Minute
	emulator        = "qemu-system-x86_64"
	cpuModel        = "Westmere"
)

// bareBoot is how long after QEMU's start a guest came to each milestone, without cloud, node and libvirt.
type bareBoot struct {
	stages map[string]time.Duration
}

func (b bareBoot) floppyRead() time.Duration { return b.stages[agent.StageMediumRead] }

func benchBareBoot(ctx context.Context, s *suite) error {
	boot, err := s.bareBoot(ctx)
	if err != nil {
		return err
	}
	s.emit(result{Name: nameBareBoot, Value: boot.floppyRead().Seconds(), Unit: seconds})
	return nil
}

// bareBoot returns the median boot; it is measured when it is first asked for.
func (s *suite) bareBoot(ctx context.Context) (bareBoot, error) {
	if s.bare != nil {
		return *s.bare, nil
	}
	image, err := builder.Load(s.images, string(builder.LBVM))
	if err != nil {
		return bareBoot{}, err
	}
	accelerator, err := proveAccelerator(ctx)
	if err != nil {
		return bareBoot{}, err
	}
	var boots []bareBoot
	for range bareBoots {
		boot, err := bootOnce(ctx, image, accelerator)
		if err != nil {
			return bareBoot{}, err
		}
		boots = append(boots, boot)
	}
	middle := medianBy(boots, bareBoot.floppyRead)
	s.bare = &middle
	return middle, nil
}

func proveAccelerator(ctx context.Context) (string, error) {
	verdict, err := accel.Cached{Prover: accel.NewKVM(accel.Config{Emulator: emulator, CPU: cpuModel}),
		Dir: local.Cache(), Emulator: emulator}.Prove(ctx)
	if err != nil {
		return "", fmt.Errorf("find the accelerator: %w", err)
	}
	return verdict.Accelerator, nil
}

// bootOnce boots one guest and follows its console until it has read its floppy.
func bootOnce(ctx context.Context, image builder.Image, accelerator string) (bareBoot, error) {
	medium, err := makeFloppy()
	if err != nil {
		return bareBoot{}, err
	}
	defer func() { _ = medium.Close() }()
	ctx, cancel := context.WithTimeout(ctx, bareBootTimeout)
	defer cancel()
	qemu, err := startQEMU(ctx, machine{
		image: image, accelerator: accelerator, memoryMB: ec2.InstanceTypes()[0].MemoryMB,
	}.withMedium(), medium)
	if err != nil {
		return bareBoot{}, err
	}
	boot := bareBoot{stages: map[string]time.Duration{}}
	if err := qemu.follow(ctx, agent.StageMediumRead, boot.stages); err != nil {
		return bareBoot{}, fmt.Errorf("bare boot: %w", err)
	}
	qemu.end()
	return boot, nil
}

// follow reads the console until the guest has come to a stage, and notes how long after QEMU's start it came to each.
// When it does not come there QEMU is ended.
func (q *qemu) follow(ctx context.Context, stage string, stages map[string]time.Duration) error {
	var tail []string
	lines := bufio.NewScanner(q.console)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := stageOf(line); ok {
			if _, known := stages[name]; !known {
				stages[name] = time.Since(q.begun)
			}
			if name == stage {
				return nil
			}
		}
		tail = append(tail[max(0, len(tail)-9):], line)
	}
	said := q.end()
	if ctx.Err() != nil {
		return fmt.Errorf("no %s: %w; console:\n%s", stage, context.Cause(ctx), strings.Join(tail, "\n"))
	}
	return fmt.Errorf("QEMU ended: %s\n%s", said, strings.Join(tail, "\n"))
}

// stageOf reads a milestone's stage from a line of the console.
func stageOf(line string) (string, bool) {
	_, text, ok := strings.Cut(line, agent.MilestonePrefix)
	if !ok {
		return "", false
	}
	var milestone struct {
		Stage string `json:"stage"`
	}
	err := json.Unmarshal([]byte(text), &milestone)
	return milestone.Stage, err == nil && milestone.Stage != ""
}

// makeFloppy writes a floppy with a valid credential into memory that has no name, and opens it for reading: it is
// gone with the processes that hold it.
func makeFloppy() (*os.File, error) {
	files, err := credential()
	if err != nil {
		return nil, err
	}
	var image bytes.Buffer
	if err := floppy.Write(&image, files); err != nil {
		return nil, err
	}
	defer clear(image.Bytes())
	fd, err := unix.MemfdCreate("floppy", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make floppy: %w", err)
	}
	f := os.NewFile(uintptr(fd), "floppy")
	defer func() { _ = f.Close() }()
	if _, err := f.Write(image.Bytes()); err != nil {
		return nil, fmt.Errorf("write floppy: %w", err)
	}
	// QEMU takes a descriptor only with the very access that it wants, and this drive is for reading.
	medium, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return nil, fmt.Errorf("open floppy: %w", err)
	}
	return medium, nil
}

// credential makes what a node would put on a load-balancer VM's floppy.
func credential() (map[string][]byte, error) {
	const instance = "i-00000000000000be1"
	authority, err := keydelivery.NewAuthority(time.Now())
	if err != nil {
		return nil, err
	}
	key, keyPEM, err := keydelivery.NewLBKey()
	if err != nil {
		return nil, err
	}
	cert, err := authority.SignLBCert(instance, key.Public(), time.Now(), time.Now().Add(24*time.Hour))
	if err != nil {
		return nil, err
	}
	cloud, err := pki.NewAuthority("cloud CA")
	if err != nil {
		return nil, err
	}
	entropy := make([]byte, keydelivery.EntropySize)
	_, _ = rand.Read(entropy) // crypto/rand never returns an error
	const api = "https://169.254.169.253"
	medium := keydelivery.Medium{
		LBCertPEM: cert, LBKey: keyPEM, IAMCertPEM: authority.CertificatePEM(), CloudCertPEM: cloud.PEM,
		Boot: keydelivery.Boot{FormatVersion: keydelivery.BootFormat, InstanceID: instance,
			Endpoints: map[string]string{"iam": api, "elb": api}, CAPEM: string(cloud.PEM), Entropy: entropy,
			Region: "us-east-1"},
	}
	return medium.Files()
}
