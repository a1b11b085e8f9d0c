package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/otlp"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func newUp(o *options) *cobra.Command {
	cfg := local.Config{}
	var collector otlptrace.Client
	var otlpAddress string
	var guests guestsFlags
	var detach bool
	var faults string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cloud with a node and keep it running",
		Long: "Starts a cloud with a node and keeps it running until Ctrl-C or 'cloudtwin down', which end its guests and\n" +
			"remove its state. After a crash of the process the next 'up' finds state and guests and goes on.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Layout, cfg.Images = local.Layout(o.state), o.images
			var err error
			cfg.Guests, err = guests.check(cfg.HypervisorURI)
			if err := errors.Join(err, checkAddress("--api", cfg.APIAddress), checkAddress("--node-api", cfg.NodeAddress),
				checkHypervisor(cfg.HypervisorURI), checkState(cfg.Layout), checkProfile(cfg.MinDeliveryProfile),
				checkLBCertLife(cfg.LBCertLife), checkRootKey(cfg.RootKey), checkOwner(cfg.LBVMOwner),
				checkRoleCredentialsLife(cfg.RoleCredentialsLife)); err != nil {
				return &usageError{err: err}
			}
			if faults != "" {
				if cfg.Faults, err = readSchedule(faults); err != nil {
					return err
				}
			}
			if otlpAddress != "" {
				if collector, err = otlp.NewClient(otlpAddress); err != nil {
					return &usageError{err: fmt.Errorf("--otlp: %w", err)}
				}
			}
			if detach {
				return startDetached(cmd, o)
			}
			return up(cmd, cfg, collector)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.APIAddress, "api", "127.0.0.1:4580", "host:port of the API; port 0 means a free one")
	flags.StringVar(&cfg.NodeAddress, "node-api", "127.0.0.1:0", "host:port for nodes")
	flags.StringSliceVar(&cfg.StoreEndpoints, "store", nil, "URLs of an external etcd cluster (default: embedded)")
	flags.BoolVar(&cfg.NoNode, "no-node", false, "start no node here; nodes join with 'cloudtwin node'")
	flags.BoolVar(&cfg.Keep, "keep", false, "at the end leave state and guests for the next 'up'")
	flags.StringVar(&cfg.HypervisorURI, "hypervisor", "", "libvirt daemon of this host by its URI, such as "+
		"qemu:///session (default: in process)")
	guests.register(cmd)
	flags.IntVar(&cfg.MinDeliveryProfile, "min-delivery-profile", 0, "least profile of the key-delivery protocol that is "+
		"answered, 1 or 2 (default 2, or 1 when an image is registered as profile 1)")
	flags.IntVar(&cfg.Replicas, "replicas", 1, "load-balancer VMs of each load balancer")
	flags.DurationVar(&cfg.LBCertLife, "lbcert-life", keydelivery.DefaultDays*24*time.Hour, "how long the certificate "+
		"is valid with which a load-balancer VM asks for keys, 30s to 3650 days; it is renewed before its end")
	flags.StringVar(&cfg.LBVMOwner, "lbvm-owner", string(elb.OwnerSystem), "account in which load-balancer VMs run: "+
		"system, user (the load balancer's, hidden there) or linked (one that is made for each user account)")
	flags.DurationVar(&cfg.RoleCredentialsLife, "role-credentials-life", 6*time.Hour, "how long the credentials of an "+
		"instance's role are valid, 15m to 12h; new ones are there 5 minutes before their end")
	flags.StringVar(&cfg.RootKey, "root-key", "", "key on a PKCS#11 token that seals the cloud's secrets instead of a "+
		"file, as a URI: "+tokenURIForm)
	flags.StringVar(&faults, "faults", "", "file of a schedule of faults that is played once the node can take guests")
	flags.StringVar(&otlpAddress, "otlp", "", "OpenTelemetry collector that is told what happens, such as "+
		"http://127.0.0.1:4318 or grpc://127.0.0.1:4317")
	flags.BoolVarP(&detach, "detach", "d", false, "run in the background")
	return cmd
}

func up(cmd *cobra.Command, cfg local.Config, collector otlptrace.Client) (err error) {
	ctx := cmd.Context()
	twin, err := local.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, twin.Close()) }()
	if collector != nil {
		exporter := otlp.Start(collector, slog.Default(), twin.Follow)
		defer exporter.Close()
	}
	_, _ = fmt.Fprintf(
		cmd.OutOrStdout(),
		"endpoint %s\nuse it:  eval \"$(cloudtwin env%s)\"\nend it:  Ctrl-C or 'cloudtwin down%s'\n",
		twin.Endpoint(),
		stateFlag(cfg.Layout),
		stateFlag(cfg.Layout),
	)
	select {
	case <-ctx.Done():
	case <-twin.Done():
	case <-twin.NodeDone():
		return fmt.Errorf("the node in this process stopped: %w", twin.NodeErr())
	}
	return nil
}

// stateFlag is how other commands must be told of a state folder that is not the default.
func stateFlag(l local.Layout) string {
	if string(l) == local.DefaultState() {
		return ""
	}
	return " --state " + string(l)
}

// detachTimeout is how long a detached cloud may take to answer.
const detachTimeout = 60 * time.Second

// startDetached runs the same command line without --detach in a session of its own and waits until it answers.
func startDetached(cmd *cobra.Command, o *options) error {
	layout := local.Layout(o.state)
	if err := local.Prepare(layout); err != nil {
		return err
	}
	// Appended to: a cloud that runs here already goes on writing to it.
	log, err := os.OpenFile(layout.Log(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	args := append(slices.Clone(os.Args[1:]), "--detach=false")                       // the last word counts
	child := exec.CommandContext(context.WithoutCancel(cmd.Context()), self, args...) //nolint:gosec // our own program
	child.Stdout, child.Stderr = log, log
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = child.Wait() // how it ended is in its log
	}()
	status, err := awaitAnswer(cmd.Context(), o.client(), child.Process.Pid, ended)
	if err != nil {
		// One that does not answer in time must not come up later, unasked.
		_ = child.Process.Signal(syscall.SIGTERM)
		<-ended
		text, _ := io.ReadAll(io.NewSectionReader(log, begin, maxChildLog))
		return fmt.Errorf("%w\n%s", err, text)
	}
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), "endpoint %s\n", status.Endpoint)
	return nil
}

func awaitAnswer(ctx context.Context, client *operator.Client, pid int, ended <-chan struct{}) (
	operator.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := client.Status(ctx)
		if err == nil && status.PID == pid {
			return status, nil
		}
		select {
		case <-ended:
			return status, &childError{}
		case <-ctx.Done():
			return status, fmt.Errorf("wait for the cloud in the background: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// maxChildLog bounds what is shown of a detached cloud's last words, in bytes.
const maxChildLog = 64 << 10

// childError means that a detached cloud ended at once; its own words follow. What a cloud stumbles over at its start
// is the machine, so it counts as an infrastructure failure.
type childError struct{}

func (*childError) Error() string { return "the cloud in the background ended:" }
