package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func newPs(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List nodes, guests and load balancers",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := o.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(status)
			}
			printStatus(cmd.OutOrStdout(), status)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(w io.Writer, s operator.Status) {
	_, _ = fmt.Fprintf(w, "endpoint %s, state %s, process %d\n\n", s.Endpoint, s.StateDir, s.PID)
	nodes := newTable(w, "NODE", "STATE", "HYPERVISOR", "ACCELERATOR", "MEMORY FREE", "CERTIFICATE")
	for _, n := range s.Nodes {
		nodes.AppendRow(table.Row{n.ID, n.State, n.Hypervisor, n.Accelerator,
			fmt.Sprintf("%d of %d MB", n.MemoryFreeMB, n.MemoryMB), nodeIdentityLeft(n.Certificate, time.Now())})
	}
	nodes.Render()
	_, _ = fmt.Fprintln(w)
	guests := newTable(w, "VM", "NAME", "IMAGE", "STATE", "STAGE", "GUEST", "ADDRESS", "SSH", "NODE", "IDENTITY", "AGE")
	for _, i := range s.Instances {
		guests.AppendRow(table.Row{i.ID, i.Name, i.Image, i.State, i.Stage, i.Guests, i.PrivateIP, i.SSH, i.NodeID,
			identityLeft(i.Identity, time.Now()), time.Since(i.Launched).Round(time.Second)})
	}
	guests.Render()
	_, _ = fmt.Fprintln(w)
	balancers := newTable(w, "LOAD BALANCER", "LISTENER", "REACHED AT", "CERTIFICATE", "VMS")
	for _, lb := range s.LoadBalancers {
		for _, l := range lb.Listeners {
			balancers.AppendRow(table.Row{lb.Name, fmt.Sprintf("%s %d", l.Protocol, l.Port), l.HostAddress, l.Certificate,
				strings.Join(lb.Instances, " ")})
		}
	}
	balancers.Render()
}

// nodeIdentityLeft tells how long a node's NODECERT is good, and that it is being renewed.
func nodeIdentityLeft(c operator.NodeCertificate, now time.Time) string {
	return identityLeft(&operator.Identity{NotAfter: c.NotAfter, Renewing: c.Renewing}, now)
}

// identityLeft tells how long a load-balancer VM's LBCERT is good, and that it is being renewed.
func identityLeft(id *operator.Identity, now time.Time) string {
	switch {
	case id == nil:
		return ""
	case id.NotAfter.IsZero():
		return "not on record"
	}
	const day = 24 * time.Hour
	left := id.NotAfter.Sub(now)
	text := left.Round(time.Second).String()
	switch {
	case left <= 0:
		text = "expired"
	case left >= 2*day:
		text = fmt.Sprintf("%dd", int(left/day))
	}
	if id.Renewing {
		text += ", renewing"
	}
	return text
}

// newTable returns a table without rules, as ps and its kin print them.
func newTable(w io.Writer, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft = ""
	t.SetStyle(style)
	t.AppendHeader(header)
	return t
}
