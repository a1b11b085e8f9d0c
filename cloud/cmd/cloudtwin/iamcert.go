package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func newIAMCert(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "iamcert",
		Short: "Look after the cloud's own identity",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{err: errors.New("names what to do: list, rotate or retire")}
		},
	}
	cmd.AddCommand(newIAMCertList(o), newIAMCertRotate(o), newIAMCertRetire(o))
	return cmd
}

func newIAMCertList(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the cloud's IAMCERTs and what still hangs on them",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := o.client().IAMCerts(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(list)
			}
			printIAMCerts(cmd.OutOrStdout(), list)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printIAMCerts(w io.Writer, list []operator.IAMCert) {
	certs := newTable(w, "SERIAL", "PROFILE", "STATE", "CREATED", "ENDS", "VMS", "KEYS")
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	for _, c := range list {
		certs.AppendRow(table.Row{c.Serial, c.Profile, c.State, day(c.Created), day(c.NotAfter), c.Users, c.SealedKeys})
	}
	certs.Render()
}

func newIAMCertRotate(o *options) *cobra.Command {
	var profile int
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the certificate that signs load-balancer VMs' identities",
		Long: "Makes a new IAMCERT with a new key. It signs from now on, every load-balancer VM gets an identity of it by\n" +
			"a new floppy, and users' keys are sealed to it at rest. What the one before signed stays good until no VM\n" +
			"needs it; then that one is retired by itself.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if profile != 1 && profile != 2 {
				return &usageError{err: fmt.Errorf("--profile %d: want 1 or 2", profile)}
			}
			cert, err := o.client().RotateIAMCert(cmd.Context(), profile)
			if err != nil {
				return asRefused(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "IAMCERT %s of profile %d signs from now on\n", cert.Serial, cert.Profile)
			return err
		},
	}
	cmd.Flags().IntVar(&profile, "profile", 2, "profile of the key-delivery protocol whose IAMCERT it is, 1 or 2")
	return cmd
}

func newIAMCertRetire(o *options) *cobra.Command {
	var old, force bool
	cmd := &cobra.Command{
		Use:   "retire SERIAL",
		Short: "Accept a former IAMCERT no more",
		Long: "Has what a former IAMCERT signed refused from now on, and removes its key. The cloud does it by itself\n" +
			"when no load-balancer VM has an identity of it. While one has, it is done with --force only: such a VM then\n" +
			"gets no key until its new identity has reached it.",
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1 && args[0] != "") == old || len(args) > 1 {
				return &usageError{err: errors.New("takes one serial number, as 'cloudtwin iamcert list' shows it, or --old")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			serial := ""
			if !old {
				serial = args[0]
			}
			list, err := o.client().RetireIAMCerts(cmd.Context(), serial, force)
			if err != nil {
				return asRefused(err)
			}
			if len(list) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "there is no former IAMCERT")
			}
			for _, c := range list {
				_, perr := fmt.Fprintf(cmd.OutOrStdout(), "retired IAMCERT %s of profile %d\n", c.Serial, c.Profile)
				err = errors.Join(err, perr)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&old, "old", false, "all former ones")
	cmd.Flags().BoolVar(&force, "force", false, "even while load-balancer VMs have identities of it")
	return cmd
}
