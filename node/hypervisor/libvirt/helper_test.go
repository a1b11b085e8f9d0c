package libvirt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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
