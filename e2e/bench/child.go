package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a process that ends with this one, however that ends.
type child struct {
	begun time.Time
	pid   int
	ended chan struct{} // closed when it has ended; then err is how
	err   error
}

// startChild starts cmd. signal is what the child gets when this process is gone. afterwards runs once the child has
// been started, or could not be.
func startChild(cmd *exec.Cmd, signal syscall.Signal, afterwards func()) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: signal}
	c := &child{ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(c.ended)
		// The death signal comes when the thread ends that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		c.begun = time.Now()
		err := cmd.Start()
		if afterwards != nil {
			afterwards()
		}
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-c.ended
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// end asks the child to end and kills it when it does not in time.
func (c *child) end(patience time.Duration) error {
	_ = syscall.Kill(c.pid, syscall.SIGTERM)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		_ = syscall.Kill(c.pid, syscall.SIGKILL)
		<-c.ended
	}
	return c.err
}
