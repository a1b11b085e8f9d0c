package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node/template"
)

const (
	bareForks = 5
	// monitorTick is how often QEMU is asked for something that has no event.
	monitorTick = time.Millisecond
)

// benchBareFork measures a fork without cloud, node and libvirt: from QEMU's start to the floppy read.
func benchBareFork(ctx context.Context, s *suite) error {
	boot, err := s.bareBoot(ctx)
	if err != nil {
		return err
	}
	original, err := makeBareTemplate(ctx, s)
	if err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	defer original.remove()
	var took []time.Duration
	for range bareForks {
		one, err := original.fork(ctx)
		if err != nil {
			return err
		}
		took = append(took, one)
	}
	s.emit(result{Name: nameBareFork, Value: median(took).Seconds(), Unit: seconds}.
		against(nameBareBoot, boot.floppyRead().Seconds(), aim{}))
	return nil
}

// bareTemplate is a guest that was booted until it waited for its medium.
type bareTemplate struct {
	machine machine
	dir     string
}

func (t bareTemplate) memory(share string) string {
	return fmt.Sprintf("memory-backend-file,id=pc.ram,size=%dM,mem-path=%s,share=%s", t.machine.memoryMB,
		filepath.Join(t.dir, "memory"), share)
}

// ignoreShared leaves the memory, which both sides have, out of the state.
func ignoreShared() map[string]any {
	return map[string]any{"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}}}
}

// arguments put in an empty drive and a monitor. There is no
// sandbox: the state goes through a program.
func (t bareTemplate) arguments(share, monitor string) []string {
	m := t.machine
	m.memory = t.memory(share)
	return append(m.arguments(), "-device", "floppy,id=drive,unit=0,drive-type=144", "-qmp",
		"unix:"+monitor+",server=on,wait=off")
}

func makeBareTemplate(ctx context.Context, s *suite) (bareTemplate, error) {
	ctx, cancel := context.WithTimeout(ctx, bareBootTimeout)
	defer cancel()
	image, err := builder.Load(s.images, string(builder.LBVM))
	if err != nil {
		return bareTemplate{}, err
	}
	accelerator, err := proveAccelerator(ctx)
	if err != nil {
		return bareTemplate{}, err
	}
	dir, err := s.room.scratch()
	if err != nil {
		return bareTemplate{}, err
	}
	t := bareTemplate{dir: dir, machine: machine{image: image, accelerator: accelerator,
		memoryMB: ec2.InstanceTypes()[0].MemoryMB, words: template.Word}}
	socket := filepath.Join(dir, "qmp")
	qemu, err := startQEMU(ctx, t.arguments("on", socket))
	if err != nil {
		return t, err
	}
	defer qemu.end()
	if err := qemu.follow(ctx, agent.StageReadyForMedium, map[string]time.Duration{}); err != nil {
		return t, err
	}
	monitor, err := openMonitor(ctx, socket)
	if err != nil {
		return t, err
	}
	defer func() { _ = monitor.Disconnect() }()
	if err := ask(monitor, "migrate-set-capabilities", ignoreShared(), nil); err != nil {
		return t, err
	}
	to := map[string]any{"uri": "exec:cat > " + filepath.Join(dir, "state")}
	if err := ask(monitor, "migrate", to, nil); err != nil {
		return t, err
	}
	return t, askUntil(ctx, monitor, "query-migrate", "completed", "failed")
}

// fork starts a copy and returns how long it took to read its floppy.
func (t bareTemplate) fork(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, bareBootTimeout)
	defer cancel()
	medium, err := makeFloppy()
	if err != nil {
		return 0, err
	}
	defer func() { _ = medium.Close() }()
	socket := filepath.Join(t.dir, "fork")
	arguments := append(t.arguments("off", socket), "-S", "-incoming", "defer",
		"-add-fd", "fd=3,set=1", "-blockdev", "driver=file,filename=/dev/fdset/1,node-name=medium,read-only=on",
		"-blockdev", "driver=raw,file=medium,node-name=floppy,read-only=on")
	qemu, err := startQEMU(ctx, arguments, medium)
	if err != nil {
		return 0, err
	}
	defer qemu.end()
	monitor, err := openMonitor(ctx, socket)
	if err != nil {
		return 0, err
	}
	defer func() { _ = monitor.Disconnect() }()
	err = ask(monitor, "migrate-set-capabilities", ignoreShared(), nil)
	if err == nil {
		err = ask(monitor, "migrate-incoming", map[string]any{"uri": "exec:cat " + filepath.Join(t.dir, "state")}, nil)
	}
	if err == nil {
		err = askUntil(ctx, monitor, "query-status", "paused", "internal-error")
	}
	if err == nil {
		err = ask(monitor, "blockdev-insert-medium", map[string]any{"id": "drive", "node-name": "floppy"}, nil)
	}
	if err == nil {
		err = ask(monitor, "cont", nil, nil)
	}
	if err != nil {
		return 0, fmt.Errorf("fork: %w", qemu.blame(err))
	}
	stages := map[string]time.Duration{}
	if err := qemu.follow(ctx, agent.StageMediumRead, stages); err != nil {
		return 0, fmt.Errorf("fork: %w", err)
	}
	return stages[agent.StageMediumRead], nil
}

// openMonitor connects to QEMU's monitor as soon as its socket is there.
func openMonitor(ctx context.Context, socket string) (*qmp.SocketMonitor, error) {
	tick := time.NewTicker(monitorTick)
	defer tick.Stop()
	for {
		monitor, err := qmp.NewSocketMonitor("unix", socket, dialTimeout)
		if err == nil {
			if err = monitor.Connect(); err == nil {
				return monitor, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to QEMU's monitor: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

func ask(monitor *qmp.SocketMonitor, command string, args, out any) error {
	text, err := json.Marshal(qmp.Command{Execute: command, Args: args})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	answer, err := monitor.Run(text)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if out == nil {
		return nil
	}
	wrapped := struct {
		Return any `json:"return"`
	}{out}
	return json.Unmarshal(answer, &wrapped)
}

// askUntil asks until QEMU's answer has a status; another one means that it will never come.
func askUntil(ctx context.Context, monitor *qmp.SocketMonitor, command, status, never string) error {
	tick := time.NewTicker(monitorTick)
	defer tick.Stop()
	for {
		var now struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := ask(monitor, command, nil, &now); err != nil {
			return err
		}
		switch now.Status {
		case status:
			return nil
		case never:
			return fmt.Errorf("%s: QEMU says %s %s", command, now.Status, now.Error)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: QEMU says %s: %w", command, now.Status, context.Cause(ctx))
		}
	}
}

// remove frees the template's memory: a scratch folder stays until the run's end.
func (t bareTemplate) remove() { _ = os.RemoveAll(t.dir) }
