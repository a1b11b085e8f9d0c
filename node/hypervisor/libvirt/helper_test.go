package libvirt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// Some things can be seen only by processes that come and go: the test binary starts itself again in a role.
const (
	helperRole = "CLOUDTWIN_LIBVIRT_TEST_ROLE"
	helperTask = "CLOUDTWIN_LIBVIRT_TEST_TASK" // a task in JSON

	roleStart = "start" // starts the machine, says so, and waits to be killed
	roleAdopt = "adopt" // finds the machine, uses it, and kills it
	roleLook  = "look"  // tells the states of all machines, and kills them
	roleCopy  = "copy"  // makes a template, copies of it in all states, says so, and waits to be killed
)

type task struct {
	Config Config
	Spec   hypervisor.Spec
	Medium string // for roleAdopt
}

// helper returns the exit code of the process.
func helper(role string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var t task
	err := json.Unmarshal([]byte(os.Getenv(helperTask)), &t)
	if err == nil {
		err = play(ctx, role, t)
	}
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

func play(ctx context.Context, role string, t task) error {
	d, err := Open(ctx, t.Config)
	if err != nil {
		return err
	}
	switch role {
	case roleStart:
		err = playStart(ctx, d, t)
	case roleAdopt:
		err = playAdopt(ctx, d, t)
	case roleLook:
		err = playLook(ctx, d)
	case roleCopy:
		err = playCopy(ctx, d, t)
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	return errors.Join(err, d.Close())
}

func playStart(ctx context.Context, d *Driver, t task) error {
	if _, err := d.Start(ctx, t.Spec); err != nil {
		return err
	}
	fmt.Println("started")
	<-ctx.Done() // until the kill
	return ctx.Err()
}

func playAdopt(ctx context.Context, d *Driver, t task) error {
	m, err := d.Find(ctx, t.Spec.ID)
	if err != nil {
		return err
	}
	if s, err := m.State(ctx); err != nil || s != hypervisor.Running {
		return fmt.Errorf("state %q, %w", s, err)
	}
	console, err := m.Console(ctx)
	if err != nil {
		return err
	}
	defer console.Close()
	scanner := bufio.NewScanner(console)
	if err := await(scanner, "@conformance booted"); err != nil {
		return err
	}
	if err := await(scanner, "@conformance ready"); err != nil {
		return err
	}
	if err := m.InsertMedium(ctx, t.Medium); err != nil {
		return err
	}
	if err := await(scanner, "@conformance medium adopted"); err != nil {
		return err
	}
	fmt.Println("adopted")
	return m.Kill(ctx)
}

// playCopy leaves one machine taken from the pool, which runs, one that waits in the pool, one that is half made and
// a template that is being made.
func playCopy(ctx context.Context, d *Driver, t task) error {
	dir := filepath.Dir(t.Medium)
	tmpl := hypervisor.Template{Memory: filepath.Join(dir, "memory"), State: filepath.Join(dir, "state")}
	variant := func(id string) hypervisor.Spec {
		spec := t.Spec
		spec.ID, spec.ConsoleLog, spec.NIC.Socket = id, spec.ConsoleLog+"-"+id, spec.NIC.Socket+"-"+id
		return spec
	}
	m, err := d.StartTemplate(ctx, variant("i-template"), tmpl)
	if err != nil {
		return err
	}
	if err := awaitLine(ctx, m, "@conformance ready"); err != nil {
		return err
	}
	if err := d.SaveTemplate(ctx, m, tmpl); err != nil {
		return err
	}
	if err := awaitSpare(ctx, d, t.Spec, tmpl); err != nil {
		return err
	}
	taken := t.Spec
	taken.Medium = t.Medium
	if m, err = d.Fork(ctx, taken, tmpl); err != nil {
		return err
	}
	if err := awaitLine(ctx, m, "@conformance medium adopted"); err != nil {
		return err
	}
	if err := awaitSpare(ctx, d, t.Spec, tmpl); err != nil {
		return err
	}
	half := plan{name: d.names.domain("i-half"), spec: variant("i-half"), kind: fork, ram: tmpl.Memory}
	if _, err := d.copy(ctx, &half, tmpl); err != nil {
		return err
	}
	second := hypervisor.Template{Memory: tmpl.Memory + "-2", State: tmpl.State + "-2"}
	if _, err := d.StartTemplate(ctx, variant("i-unfinished"), second); err != nil {
		return err
	}
	fmt.Println("copied")
	<-ctx.Done() // until the kill
	return ctx.Err()
}

// awaitSpare returns when a machine is kept ready.
func awaitSpare(ctx context.Context, d *Driver, shape hypervisor.Spec, t hypervisor.Template) error {
	if err := d.Prepare(ctx, shape, t, 1, nil); err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for d.pools.ready() == 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// awaitLine reads a console from its first byte.
func awaitLine(ctx context.Context, m hypervisor.Machine, line string) error {
	console, err := m.Console(ctx)
	if err != nil {
		return err
	}
	defer console.Close()
	return await(bufio.NewScanner(console), line)
}

func await(scanner *bufio.Scanner, line string) error {
	for scanner.Scan() {
		if strings.TrimSpace(scanner.Text()) == line {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("console ended before %q", line), scanner.Err(), io.ErrUnexpectedEOF)
}

func playLook(ctx context.Context, d *Driver) error {
	machines, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, m := range machines {
		s, err := m.State(ctx)
		if err != nil {
			return err
		}
		fmt.Println(m.ID(), s)
		if err := m.Kill(ctx); err != nil {
			return err
		}
	}
	fmt.Println("looked")
	return nil
}
