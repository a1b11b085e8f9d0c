package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

func newBundle(o *options) *cobra.Command {
	var (
		output, since string
		store, nodes  []string
		src           bundle.Source
	)
	cmd := &cobra.Command{
		Use:   "bundle -o FILE",
		Short: "Put the evidence of a cloud or node into one file",
		Long: "Takes events, guests' consoles, screens and frames, domain XML, QEMU's and libvirt's logs, image\n" +
			"manifests, faults, what runs, and the cloud's records with test keys in the place of its own, of the cloud\n" +
			"or node in --state, running or ended. Everything is searched for the state's keys first: with one in it,\n" +
			"no file is written. 'cloudtwin inspect' reads the file.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				return &usageError{err: errors.New("-o is required: the file to write")}
			}
			var err error
			if src.Selection.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			ctx := cmd.Context()
			src.State, src.Images = local.Layout(o.state), o.images
			if src.Nodes, err = nodeStates(nodes); err != nil {
				return err
			}
			if err := readable("--log-file", src.Logs); err != nil {
				return err
			}
			if src.Status, err = o.statusIfRunning(ctx); err != nil {
				return err
			}
			src.Screenshot = o.client().Screenshot
			m, err := writeBundle(ctx, output, src, store)
			if errors.Is(err, bundle.ErrNothing) {
				return fmt.Errorf("%w, and %w", operator.ErrNotRunning, err)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%d files in %s; look at it with: cloudtwin inspect %s\n",
				len(m.Files), output, output)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "", "file to write")
	flags.StringVar(&src.Selection.VM, "vm", "", "only the instance with this id")
	flags.StringVar(&src.Selection.LoadBalancer, "lb", "", "only the load balancer with this name and its VMs")
	flags.StringVar(&since, "since", "", "only events since a time (2026-11-22T06:00:00Z) or of the last while (15m)")
	flags.StringSliceVar(&store, "store", nil, "URLs of the cloud's external etcd cluster (default: what the state "+
		"folder says)")
	registerNodeStates(cmd, &nodes)
	flags.StringArrayVar(&src.Logs, "log-file", nil, "file with what the process of the cloud or of a node said; may be "+
		"repeated")
	return cmd
}

// writeBundle opens what the state's keys and records are in, for the time that it takes to write the bundle.
func writeBundle(ctx context.Context, output string, src bundle.Source, store []string) (m bundle.Manifest, err error) {
	if store, err = storeOf(src.State, store); err != nil {
		return m, err
	}
	keys, err := keysToFind(ctx, src.State, nil, store)
	defer func() {
		for _, k := range keys {
			k.Wipe()
		}
	}()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	if _, missing := os.Stat(src.State.Cloud()); missing != nil && len(store) == 0 {
		return bundle.Write(ctx, output, src, keys) // of a node by itself
	}
	records, closing, err := leakscan.OpenRecords(ctx, src.State.Cloud(), store)
	if err != nil {
		return m, fmt.Errorf("%w: %w", errUnscanned, err)
	}
	defer func() { err = errors.Join(err, closing()) }()
	more, err := leakscan.StateSecrets(ctx, records, src.State.Cloud())
	keys = append(keys, more...)
	if err != nil {
		return m, fmt.Errorf("%w: %w", errUnscanned, err)
	}
	src.Records = records
	return bundle.Write(ctx, output, src, keys)
}

// statusIfRunning asks what runs; nil when nothing does.
func (o *options) statusIfRunning(ctx context.Context) (*operator.Status, error) {
	status, err := o.client().Status(ctx)
	if errors.Is(err, operator.ErrNotRunning) {
		return nil, nil //nolint:nilnil // nothing runs, which is no error
	}
	return &status, err
}

func newInspect() *cobra.Command {
	var page string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Tell what a bundle holds: guests' lives, and what did not work",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{err: errors.New("takes one argument, a file that 'cloudtwin bundle' wrote")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			b, err := bundle.Open(args[0])
			if err != nil {
				return &usageError{err: err}
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			if page != "" {
				if err := b.Verify(); err != nil {
					return &usageError{err: err}
				}
				return writePage(b, page)
			}
			report, err := b.Report() // which verifies what it reads
			if err = errors.Join(err, b.Verify()); err != nil {
				return &usageError{err: err}
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(report)
			}
			return report.Write(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&page, "html", "", "write a page to this file that shows everything in a browser, from the disk")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func writePage(b *bundle.Bundle, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return errors.Join(b.WritePage(f), f.Close())
}
