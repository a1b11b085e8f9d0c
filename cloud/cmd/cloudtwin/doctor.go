package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/doctor"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

// errUnfit means that a machine lacks what the main job needs.
var errUnfit = errors.New("the main job cannot run on this machine; the lines that begin with fail say why")

func newDoctor(o *options) *cobra.Command {
	var guests guestsFlags
	var hypervisor string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look this machine over: what guests need, what is missing, what to do about it",
		Long: "Looks at everything that the main job needs on this machine. Each line is ok, warn (it will do) or fail\n" +
			"(the main job cannot run), with what was found and what to do about it. The exit code is 3 when one fails.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := guests.check(hypervisor)
			if err := errors.Join(err, checkHypervisor(hypervisor)); err != nil {
				return &usageError{err: err}
			}
			facts := doctor.Gather(cmd.Context(), doctor.Config{Guests: chosen.Mode, Hypervisor: hypervisor,
				Layout: local.Layout(o.state), Images: o.images})
			found := doctor.Examine(facts)
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				err = encoder.Encode(found)
			} else {
				printFindings(cmd.OutOrStdout(), found)
			}
			if err != nil {
				return err
			}
			if slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Status == doctor.Fail }) {
				return errUnfit
			}
			return nil
		},
	}
	guests.registerMode(cmd)
	cmd.Flags().StringVar(&hypervisor, "hypervisor", "", "libvirt daemon of this host by its URI, such as "+
		"qemu:///session, that is to run the guests (default: in process)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printFindings prints what to do about a line below it.
func printFindings(w io.Writer, found []doctor.Finding) {
	for _, f := range found {
		_, _ = fmt.Fprintf(w, "%-4s  %-17s  %s\n", f.Status, f.Check, f.Found)
		if f.Advice != "" {
			_, _ = fmt.Fprintf(w, "%25s-> %s\n", "", f.Advice)
		}
	}
}
