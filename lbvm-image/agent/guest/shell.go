package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/shell"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/sshd"
)

// busybox is the one program of the web image beside the agent: a shell with everything else built in.
const busybox = "/bin/busybox"

// killGrace is how long a command may go on after its client has gone.
const killGrace = 2 * time.Second

// Exit statuses as shells have them.
const (
	exitNotStarted = 126
	exitSignal     = 128 // and the signal's number
)

// shellEnvironment is that of every command; a client's own variables are not taken.
func shellEnvironment(s sshd.Session) []string {
	env := []string{"HOME=/root", "PATH=/bin", "SHELL=/bin/sh", "USER=root", "LOGNAME=root"}
	if s.Terminal != nil {
		env = append(env, "TERM="+s.Terminal.Name)
	}
	return env
}

// runShell runs a session's command as a process of the guest: all that a user expects of a small Linux.
func runShell(ctx context.Context, s sshd.Session) int {
	args := []string{"sh"}
	switch {
	case s.Command != "":
		args = append(args, "-c", s.Command)
	case s.Terminal != nil:
		args = append(args, "-i")
	}
	cmd := &exec.Cmd{
		Path: busybox, Args: args, Env: shellEnvironment(s), Dir: "/root",
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	var err error
	if s.Terminal != nil {
		err = runOnTerminal(ctx, cmd, s)
	} else {
		err = runOnPipes(ctx, cmd, s)
	}
	var ended *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it ended well, and what it started goes on
		return 0
	case errors.As(err, &ended):
		if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return exitSignal + int(status.Signal())
		}
		return ended.ExitCode()
	}
	_, _ = fmt.Fprintf(s.Stderr, "cannot run a command in this guest: %v\n", err)
	return exitNotStarted
}

// runCurl is the program in the place of curl, which BusyBox has not.
func runCurl(args []string) int {
	machine := &shell.Machine{Now: time.Now, Dial: (&net.Dialer{}).DialContext}
	return machine.Curl(context.Background(), args, os.Stdin, os.Stdout, os.Stderr)
}

// runOnPipes runs the command and returns when it has ended, however much of its input is left, and when those that it
// started and left behind have closed its output or killGrace is over.
func runOnPipes(ctx context.Context, cmd *exec.Cmd, s sshd.Session) error {
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	cmd.WaitDelay = killGrace
	// A pipe of our own: with exec's the command's end would be waited for until the client closes its side.
	in, feed, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer feed.Close()
	cmd.Stdin = in
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		_, _ = io.Copy(feed, s.Stdin)
		_ = feed.Close()
	}()
	defer killWith(ctx, cmd)()
	return cmd.Wait()
}

// killWith ends the command and all that it started when ctx ends.
func killWith(ctx context.Context, cmd *exec.Cmd) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
}

// runOnTerminal runs the command on a terminal of its own, which is the client's window.
func runOnTerminal(ctx context.Context, cmd *exec.Cmd, s sshd.Session) error {
	master, slave, err := openTerminal()
	if err != nil {
		return err
	}
	defer master.Close()
	resize(master, s.Terminal.Size)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	err = cmd.Start()
	_ = slave.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer killWith(ctx, cmd)()
	go func() { _, _ = io.Copy(master, s.Stdin) }()
	go func() {
		for {
			select {
			case size := <-s.Terminal.Resized:
				resize(master, size)
			case <-ctx.Done():
				return
			}
		}
	}()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = io.Copy(s.Stdout, master) // ends with an error when nobody has the terminal open any more
	}()
	err = cmd.Wait()
	select {
	case <-shown:
	case <-time.After(killGrace): // something that it started is still there
	}
	return err
}

// openTerminal makes a pair of a terminal's two ends.
func openTerminal() (master, slave *os.File, err error) {
	if err := mountTerminals(); err != nil {
		return nil, nil, err
	}
	master, err = os.OpenFile("/dev/pts/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make terminal: %w", err)
	}
	var number int
	err = control(master, func(fd int) error {
		var err error
		if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	})
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("make terminal: %w", err)
	}
	return master, slave, nil
}

func resize(terminal *os.File, size sshd.Size) {
	const most = 1<<16 - 1
	_ = control(terminal, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{
			Row: uint16(min(size.Rows, most)), Col: uint16(min(size.Columns, most)),
		})
	})
}

// control hands a file's number to a function. The file's own Fd would make reads of it hang past its Close.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// mountTerminals mounts the file system of terminals where it is not: most guests never need it.
func mountTerminals() error {
	const dir = "/dev/pts"
	if _, err := os.Stat(dir + "/ptmx"); err == nil {
		return nil
	}
	err := os.MkdirAll(dir, 0o755) //nolint:gosec // G301: as everywhere
	if err == nil {
		err = unix.Mount("devpts", dir, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=620,ptmxmode=666")
	}
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}
