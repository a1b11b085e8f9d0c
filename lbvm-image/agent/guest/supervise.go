package guest

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

// supervise is process 1. It does not return: the machine is switched off when the agent has ended.
func supervise() {
	rawConsole(int(os.Stdout.Fd()))
	if reason := runProcess(); reason != "" {
		agent.NewConsole(os.Stdout, uptime).Milestone(agent.StageFailed, slog.String("reason", reason))
	}
	powerOff()
}

// runProcess starts the agent as a process of its own and waits for its end. It tells what went wrong, in a few words.
func runProcess() string {
	// The agent's process inherits the ports from the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := openPorts(); err != nil {
		slog.Warn("no floppy drive", "error", err)
	}
	signals := make(chan os.Signal, 4)
	// The last two are what BusyBox's halt and poweroff send to process 1.
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	child, err := os.StartProcess("/init", []string{"lbvm-agent"}, &os.ProcAttr{
		Dir:   "/",
		Env:   append(os.Environ(), roleVariable, runtimeSettings),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return fmt.Sprintf("agent does not start: %v", err)
	}
	go func() {
		for range signals {
			_ = child.Signal(syscall.SIGTERM)
		}
	}()
	return ending(reap(child.Pid))
}

// reap waits for every process that process 1 inherits until the one with this id ends.
func reap(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil, got == pid && (status.Exited() || status.Signaled()):
			return status
		}
	}
}

// ending is empty for an orderly end. A Go panic exits with status 2, after its trace went to the console.
func ending(status unix.WaitStatus) string {
	switch {
	case status.Signaled():
		return "agent was killed by " + unix.SignalName(status.Signal())
	case status.ExitStatus() == 2:
		return "agent crashed"
	case status.ExitStatus() != 0:
		return fmt.Sprintf("agent ended with status %d", status.ExitStatus())
	default:
		return ""
	}
}

// rawConsole stops the terminal from turning each line's end into two bytes: milestones end with one.
func rawConsole(fd int) {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return // not a terminal, nothing to stop
	}
	t.Oflag &^= unix.OPOST
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
