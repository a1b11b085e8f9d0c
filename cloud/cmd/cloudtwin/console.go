package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func newConsole(o *options) *cobra.Command {
	var follow bool
	var screenshot string
	cmd := &cobra.Command{
		Use:   "console VM",
		Short: "Follow the serial console of a guest, or take a picture of its display",
		Long: "Follows the serial console of a guest from its first byte until the guest is gone or Ctrl-C.\n" +
			"With --screenshot, writes a PNG of the guest's display instead; guests have one with 'up --displays'.\n" +
			"VM is an instance id, its beginning, or a Name tag.",
		Args: oneVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			vm, err := o.vm(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if screenshot != "" {
				return takeScreenshot(cmd.Context(), o.client(), vm.ID, screenshot)
			}
			return copyConsole(cmd.Context(), cmd.OutOrStdout(), o.client(), vm, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", true, "go on as the guest writes")
	cmd.Flags().StringVar(&screenshot, "screenshot", "", "file for a picture (PNG) of the guest's display")
	return cmd
}

// takeScreenshot writes a picture of a guest's display.
func takeScreenshot(ctx context.Context, client *operator.Client, id, path string) error {
	png, err := client.Screenshot(ctx, id)
	if err != nil {
		return asRefused(err)
	}
	if err := os.WriteFile(path, png, 0o600); err != nil {
		return fmt.Errorf("write the screenshot of %s: %w", id, err)
	}
	return nil
}

// oneVM checks the arguments of a command that is about one VM.
func oneVM(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{err: errors.New("takes one argument, the VM; 'cloudtwin ps' lists them")}
	}
	return nil
}

// vm asks the cloud for the VM that a user names.
func (o *options) vm(ctx context.Context, name string) (operator.Instance, error) {
	status, err := o.client().Status(ctx)
	if err != nil {
		return operator.Instance{}, err
	}
	return findVM(status.Instances, name)
}

func findVM(instances []operator.Instance, name string) (operator.Instance, error) {
	var found []operator.Instance
	for _, i := range instances {
		if i.ID == name {
			return i, nil
		}
		if strings.HasPrefix(i.ID, name) || i.Name == name {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return operator.Instance{}, &usageError{err: fmt.Errorf("no VM is called %q; 'cloudtwin ps' lists them", name)}
	default:
		return operator.Instance{}, &usageError{err: fmt.Errorf("%d VMs match %q; give the whole id", len(found), name)}
	}
}

// consoleInterval is how often a console that has nothing new is looked at again.
const consoleInterval = 100 * time.Millisecond

func copyConsole(ctx context.Context, w io.Writer, client *operator.Client, vm operator.Instance, follow bool) error {
	if vm.ConsolePath == "" {
		return fmt.Errorf("console of %s: its node has not told where it is yet (the VM is %s)", vm.ID, vm.State)
	}
	f, err := os.Open(vm.ConsolePath)
	if err != nil {
		return fmt.Errorf("console of %s on node %s: %w", vm.ID, vm.NodeID, err)
	}
	defer func() { _ = f.Close() }()
	tick := time.NewTicker(consoleInterval)
	defer tick.Stop()
	for quiet := 0; ; quiet++ {
		n, err := io.Copy(w, f)
		if err != nil {
			return fmt.Errorf("console of %s: %w", vm.ID, err)
		}
		if n > 0 {
			quiet = 0
		}
		if !follow || quiet%10 == 9 && gone(ctx, client, vm.ID) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// gone tells whether nothing more will come from a VM.
func gone(ctx context.Context, client *operator.Client, id string) bool {
	status, err := client.Status(ctx)
	if err != nil {
		return errors.Is(err, operator.ErrNotRunning)
	}
	vm, err := findVM(status.Instances, id)
	return err != nil || vm.State == "terminated"
}
