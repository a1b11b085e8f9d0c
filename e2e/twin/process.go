package twin

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/cloudtwin/cloudtwin/node/shares"
)

// process is a child of the suite, in a process group of its own, so that a Ctrl-C ends it through the suite's own
// clean-up.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	// share is what it takes of the machine; nil when nothing.
	share *shares.Lease
}

func startProcess(name, log string, share *shares.Lease, program string, args ...string) (*process, error) {
	adoptOrphans()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, log: log, cmd: exec.Command(program, args...), done: make(chan struct{}), share: share}
	if share != nil {
		p.cmd.ExtraFiles = []*os.File{share.File()} // so that it is held when the suite is killed and the guests go on
	}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
		_ = f.Close()
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// exited tells the exit code of a process that ended.
func (p *process) exited() (code int, ended bool) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), true
	default:
		return 0, false
	}
}

// running returns the process id, 0 when the process ended or was never started.
func (p *process) running() int {
	if p == nil {
		return 0
	}
	if _, ended := p.exited(); ended {
		return 0
	}
	return p.cmd.Process.Pid
}

// end asks the process to end and kills it when it does not.
func (p *process) end(patience time.Duration) {
	_ = p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// tail returns the last lines that the process printed.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
