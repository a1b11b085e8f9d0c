package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReboot(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "reboot VM",
		Short: "Reboot a guest, of whatever account",
		Long: "Reboots a guest of whatever account, as RebootInstances does for a user's own, and returns when that is\n" +
			"noted down. Addresses, user data and metadata stay. A load balancer's VM has its key in memory alone: it\n" +
			"gets a new certificate to ask for it with, and the one before is refused from then on.\n" +
			"VM is an instance id, its beginning, or a Name tag.",
		Args: oneVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			vm, err := o.vm(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := o.client().RebootGuest(cmd.Context(), vm.ID); err != nil {
				return asRefused(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s reboots\n", vm.ID)
			return err
		},
	}
}
