package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func newLBVM(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lbvm",
		Short: "Look after the identities of load-balancer VMs",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{err: errors.New("names what to do: renew or revoke")}
		},
	}
	cmd.AddCommand(newLBVMRevoke(o), newLBVMRenew(o))
	return cmd
}

func newLBVMRevoke(o *options) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke INSTANCE-ID",
		Short: "Withdraw a load-balancer VM's identity and replace the VM",
		Long: "Withdraws the certificate (LBCERT) with which a load-balancer VM asks for keys: from now on it is refused,\n" +
			"for requests under way too. The VM is ended and its load balancer gets another one. The audit says who did\n" +
			"it and why.",
		Args: oneInstance,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ec2.CheckReason(reason); err != nil {
				return &usageError{err: fmt.Errorf("--reason: %w", err)}
			}
			instance, err := o.client().RevokeLBVM(cmd.Context(), args[0], reason)
			if err != nil {
				return asRefused(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "revoked the identity of %s (%s), which is %s\n", instance.ID,
				instance.Name, instance.State)
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "no reason given", "why, for the audit")
	return cmd
}

func newLBVMRenew(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "renew INSTANCE-ID",
		Short: "Give a running load-balancer VM a new identity now",
		Long: "Has the certificate (LBCERT) with which a load-balancer VM asks for keys, and its key, renewed now, as the\n" +
			"cloud does by itself before it ends: the running VM gets a new floppy, and no connection is dropped. When\n" +
			"the VM has read it, the certificate before is refused; 'cloudtwin ps' then shows the new end.",
		Args: oneInstance,
		RunE: func(cmd *cobra.Command, args []string) error {
			instance, err := o.client().RenewLBVM(cmd.Context(), args[0])
			if err != nil {
				return asRefused(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "renewing the identity of %s (%s)\n", instance.ID, instance.Name)
			return err
		},
	}
}

// oneInstance asks for an instance's id.
func oneInstance(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return &usageError{err: errors.New("takes one instance id, as 'cloudtwin ps' shows it")}
	}
	return nil
}

// asRefused makes a usage error of what the running cloud says cannot be done.
func asRefused(err error) error {
	if refusal, ok := errors.AsType[*operator.Refusal](err); ok {
		return &usageError{err: refusal}
	}
	return err
}

// checkLBCertLife says what is wrong with the flag --lbcert-life.
func checkLBCertLife(life time.Duration) error {
	if life < elb.MinLBCertLife || life > elb.MaxLBCertLife {
		return fmt.Errorf("--lbcert-life %s: want %s to %s", life, elb.MinLBCertLife, elb.MaxLBCertLife)
	}
	return nil
}
