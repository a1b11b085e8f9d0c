package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// options are the flags that every command has.
type options struct {
	state  string
	images string
	log    string
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "cloudtwin",
		Short: "A cloud in a box that boots real virtual machines",
		Long: "cloudtwin answers the AWS APIs, runs instances as real QEMU guests, and brings a user's TLS key\n" +
			"to a load-balancer VM so that only that VM can open it.\n\n" +
			"Exit codes: 0 success, 1 product failure, 2 usage error, 3 infrastructure failure, 130 Ctrl-C.",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := setLog(o.log); err != nil {
				return err
			}
			// Guests and later commands name the folder from other places.
			var err error
			if o.state, err = filepath.Abs(o.state); err != nil {
				return fmt.Errorf("--state: %w", err)
			}
			if cmd.Annotations == nil {
				cmd.Annotations = map[string]string{}
			}
			cmd.Annotations[started] = "yes"
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.state, "state", local.DefaultState(), "folder of the cloud's state")
	flags.StringVar(&o.images, "images", local.DefaultImages(), "folder of guest images")
	flags.StringVar(&o.log, "log", "warn", "least level of log messages on standard error: debug, info, warn, error")
	root.AddCommand(
		newUp(o),
		newDown(o),
		newEnv(o),
		newDemo(o),
		newNode(o),
		newNodeToken(o),
		newPs(o),
		newConsole(o),
		newReboot(o),
		newImage(o),
		newEvents(o),
		newExplain(o),
		newBundle(o),
		newInspect(),
		newReplay(o),
		newIAMCert(o),
		newIdentityCert(o),
		newAccount(o),
		newLBVM(o),
		newRootKey(o),
		newLeakscan(o),
		newDoctor(o),
		newScale(o),
		newFault(o),
		newChaos(o),
		newTest(),
	)
	return root
}

func setLog(level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return &usageError{err: fmt.Errorf("--log: %w", err)}
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})))
	return nil
}

// client returns a client of the cloud that runs in the state folder.
func (o *options) client() *operator.Client {
	return operator.NewClient(local.Layout(o.state).OperatorSocket())
}

// noArgs refuses arguments, as a usage error.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{err: errors.New("takes no arguments, got " + args[0])}
	}
	return nil
}
