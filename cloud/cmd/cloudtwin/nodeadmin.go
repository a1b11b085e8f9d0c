package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func newNodeRemove(o *options) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "remove NODE-ID",
		Short: "Take a node out of the cloud for good",
		Long: "Takes a node out of the cloud, whether it is up or not: its certificate (NODECERT) opens nothing from now\n" +
			"on, nothing is placed on it, and its guests count as ended. Load balancers get other VMs on the nodes that\n" +
			"are left. The node's process ends its guests as soon as it hears of it, wipes its keys and ends.\n" +
			"The name is free again: a node can enrol under it with a new token.\n" +
			"The node in the process of 'cloudtwin up' cannot be removed; 'up --no-node' starts a cloud without one.",
		Args: oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ec2.CheckReason(reason); err != nil {
				return &usageError{err: fmt.Errorf("--reason: %w", err)}
			}
			removal, err := o.client().RemoveNode(cmd.Context(), args[0], reason)
			if err != nil {
				return asRefused(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed node %s and ended %d of its guests; nodes left: %d\n",
				removal.NodeID, removal.Ended, removal.Left)
			if removal.Left == 0 {
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "no node is up: load balancers serve nothing until one joins with "+
					"'cloudtwin node'")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "no reason given", "why, for the audit and for the node")
	return cmd
}

func newNodeRenew(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "renew NODE-ID",
		Short: "Give a node another certificate now",
		Long: "Has a node renew its certificate (NODECERT) and the key behind it now, as it does by itself when a third\n" +
			"of the certificate's life is left. A node that is away does it when it comes back. Guests notice nothing.\n" +
			"Once the node has connected with the new certificate, the one before is refused; 'cloudtwin ps --json'\n" +
			"shows which one the node has.",
		Args: oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := o.client().RenewNode(cmd.Context(), args[0])
			if err != nil {
				return asRefused(err)
			}
			when := "now"
			if node.State != "up" {
				when = "when it is connected again"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %s renews its certificate %s\n", node.ID, when)
			return err
		},
	}
}

// oneNode asks for a node's id.
func oneNode(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{err: errors.New("takes one node id, as 'cloudtwin ps' shows it")}
	}
	if err := nodelink.CheckNodeID(args[0]); err != nil {
		return &usageError{err: err}
	}
	return nil
}
