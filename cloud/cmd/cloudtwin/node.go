package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

func newNode(o *options) *cobra.Command {
	cfg := local.NodeConfig{}
	var guests guestsFlags
	var remove bool
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Join a cloud as a hypervisor host",
		Long: "Joins a cloud as a hypervisor host and runs its guests. The first time it needs a one-time token, which\n" +
			"'cloudtwin node-token' prints on the cloud's machine; later it uses the certificate that it got then.\n" +
			"When the process ends its guests go on, and the next process takes them over. 'remove' and 'renew' are for the\n" +
			"cloud's machine.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Layout, cfg.Images = local.Layout(o.state), o.images
			if remove {
				return local.Remove(cmd.Context(), cfg.Layout)
			}
			if cfg.Cloud == "" {
				return &usageError{err: errors.New("--cloud is required: the cloud's host:port for nodes")}
			}
			if cfg.MemoryMB < 0 {
				return &usageError{err: fmt.Errorf("--memory %d: expected a number of MB", cfg.MemoryMB)}
			}
			var err error
			cfg.Guests, err = guests.check(cfg.HypervisorURI)
			if err := errors.Join(err, checkAddress("--cloud", cfg.Cloud), checkToken(cfg.Token),
				checkHypervisor(cfg.HypervisorURI)); err != nil {
				return &usageError{err: err}
			}
			cfg.AloneInProcess = true
			cfg.OnLink = sayLink(cmd.ErrOrStderr(), cfg.Cloud)
			n, err := local.StartNode(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "node %s of the cloud at %s\n", cfg.ID, cfg.Cloud)
			select {
			case <-cmd.Context().Done():
			case <-n.Done():
			}
			return n.Close()
		},
	}
	cmd.AddCommand(newNodeRemove(o), newNodeRenew(o))
	flags := cmd.Flags()
	flags.StringVar(&cfg.ID, "id", "node-1", "this node's name")
	flags.StringVar(&cfg.Cloud, "cloud", "", "the cloud's host:port for nodes")
	flags.StringVar(
		&cfg.Token,
		"token",
		os.Getenv("CLOUDTWIN_TOKEN"),
		"one-time token, for the first time (or CLOUDTWIN_TOKEN)",
	)
	flags.Lookup("token").DefValue = "" // help must not show it
	flags.StringVar(&cfg.HypervisorURI, "hypervisor", "", "libvirt daemon of this host by its URI, such as "+
		"qemu:///session (default: in process)")
	flags.IntVar(&cfg.MemoryMB, "memory", 0, "MB that it offers to guests (default: nine tenths of this machine's)")
	guests.register(cmd)
	flags.BoolVar(&remove, "remove", false, "end all guests of the state folder and remove it")
	return cmd
}

// sayLink tells whoever looks that the cloud cannot be reached, once, and when it can again.
func sayLink(w io.Writer, cloud string) func(error) {
	return func(err error) {
		if err != nil {
			_, _ = fmt.Fprintf(w, "no connection to the cloud at %s, trying again until there is one: %v\n", cloud, err)
			return
		}
		_, _ = fmt.Fprintf(w, "connected to the cloud at %s\n", cloud)
	}
}

func newNodeToken(o *options) *cobra.Command {
	return &cobra.Command{Use: "node-token", Short: "Print a one-time token with which a node can join", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := o.client().NewNodeToken(cmd.Context())
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		}}
}
