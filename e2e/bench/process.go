package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

const (
	upPatience   = time.Minute
	downPatience = time.Minute
	// exitUnfit is the program's exit code for a fault of the machine.
	exitUnfit = exitInfrastructure
)

// binary builds the program under test, unless CLOUDTWIN_BIN names one, and returns its path.
func (s *suite) binary(ctx context.Context) (string, error) {
	if path := os.Getenv("CLOUDTWIN_BIN"); path != "" {
		return filepath.Abs(path)
	}
	if s.built != "" {
		return s.built, nil
	}
	dir, err := s.room.scratch()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cloudtwin")
	out, err := exec.CommandContext(ctx, "go", "build", "-tags", "libvirt_dlopen", "-o", path,
		"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build cloudtwin: %w: %s", err, out)
	}
	s.built = path
	return path, nil
}

// program is a running 'cloudtwin up'.
type program struct {
	*child
	layout local.Layout
	words  bytes.Buffer // what it printed; read it after ended
}

// startProgram starts a cloud with a node in the room's folder and returns when it answers.
func startProgram(ctx context.Context, s *suite, flags ...string) (*program, operator.Status, error) {
	path, err := s.binary(ctx)
	if err != nil {
		return nil, operator.Status{}, err
	}
	p := &program{layout: s.room.twin()}
	if err := local.Remove(ctx, p.layout); err != nil {
		return nil, operator.Status{}, err
	}
	args := append([]string{"up", "--state", string(p.layout), "--images", s.images, "--api", "127.0.0.1:0"}, flags...)
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &p.words, &p.words
	if p.child, err = startChild(cmd, syscall.SIGTERM, nil); err != nil {
		return nil, operator.Status{}, err
	}
	status, err := p.await(ctx)
	if err != nil {
		return nil, status, errors.Join(err, p.close())
	}
	return p, status, nil
}

// await waits until the cloud's node is up.
func (p *program) await(ctx context.Context) (operator.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, upPatience)
	defer cancel()
	client := operator.NewClient(p.layout.OperatorSocket())
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		status, err := client.Status(ctx)
		if err == nil && len(status.Nodes) > 0 && status.Nodes[0].State == "up" {
			return status, nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return status, errors.New("cloudtwin up ended")
		case <-ctx.Done():
			return status, fmt.Errorf("wait for cloudtwin up: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

// close ends the program and its guests. What it said is in the error.
func (p *program) close() error {
	err := p.end(downPatience)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == exitUnfit {
		err = fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("cloudtwin up: %w: %s", err, strings.TrimSpace(p.words.String()))
	}
	return local.Remove(context.Background(), p.layout)
}

// processes are those of the twin: the program, its children, and its guests, which libvirt makes no children.
func (p *program) processes() ([]procfs.Proc, error) {
	guests, err := local.GuestProcesses(p.layout)
	if err != nil {
		return nil, err
	}
	mine := map[int]bool{p.pid: true}
	for _, pid := range guests {
		mine[pid] = true
	}
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []procfs.Proc
	for _, one := range all {
		if stat, err := one.Stat(); mine[one.PID] || err == nil && stat.PPID == p.pid {
			found = append(found, one)
		}
	}
	return found, nil
}

// pss is the proportional set size of all processes of the twin: what they have for themselves, and of what they
// share each its part.
func (p *program) pss() (bytes uint64, processes int, err error) {
	all, err := p.processes()
	if err != nil {
		return 0, 0, err
	}
	for _, one := range all {
		rollup, err := one.ProcSMapsRollup()
		if err != nil {
			return 0, 0, fmt.Errorf("memory of process %d: %w", one.PID, err)
		}
		bytes += rollup.Pss
	}
	return bytes, len(all), nil
}

// cpu is the processor time that all processes of the twin that are there took so far.
func (p *program) cpu() (time.Duration, error) {
	all, err := p.processes()
	if err != nil {
		return 0, err
	}
	used := 0.0
	for _, one := range all {
		if stat, err := one.Stat(); err == nil {
			used += stat.CPUTime()
		}
	}
	return time.Duration(used * float64(time.Second)), nil
}

// A twin is idle when all its processes together use no more than a share of one core for a while.
const (
	idleTick  = 250 * time.Millisecond
	idleShare = 0.15
	idleTurns = 2
)

// idle waits until the twin has nothing to do: guests that end, a pool that fills.
func (p *program) idle(ctx context.Context) error {
	tick := time.NewTicker(idleTick)
	defer tick.Stop()
	quiet, last := 0, -1.0
	for quiet < idleTurns {
		now, err := p.cpu()
		if err != nil {
			return err
		}
		used := now.Seconds()
		// Processes that ended took their time with them.
		if last >= 0 && used >= last && used-last <= idleShare*idleTick.Seconds() {
			quiet++
		} else {
			quiet = 0
		}
		last = used
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until the twin is idle: %w", context.Cause(ctx))
		}
	}
	return nil
}
