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
	cmd := &cobra.Command{
		Use:   "console VM",
		Short: "Follow the serial console of a guest",
		Long: "Follows the serial console of a guest from its first byte until the guest is gone or Ctrl-C.\n" +
			"VM is an instance id, its beginning, or a Name tag.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{err: errors.New("takes one argument, the VM; 'cloudtwin ps' lists them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := o.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			vm, err := findVM(status.Instances, args[0])
			if err != nil {
				return err
			}
			return copyConsole(cmd.Context(), cmd.OutOrStdout(), o.client(), vm, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", true, "go on as the guest writes")
	return cmd
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
