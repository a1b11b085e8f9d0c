package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/explain"
)

func newExplain(o *options) *cobra.Command {
	var last, asJSON bool
	cmd := &cobra.Command{
		Use:   "explain REQUEST-ID",
		Short: "Tell why a request was answered as it was",
		Long: "Tells which check refused a request, what was found there and what would have passed. A denied caller\n" +
			"learns the error code and the request's id only; this asks the journal through the operator's socket.",
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == last || len(args) > 1 {
				return &usageError{
					err: errors.New("takes a request's id, as the answer's x-amzn-RequestId has it, or --last-denied"),
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if !last {
				if id = args[0]; id == "" {
					return &usageError{err: errors.New("the request's id is empty")}
				}
			}
			events, err := o.client().Request(cmd.Context(), id)
			if err != nil {
				return err
			}
			explanation, err := explain.Of(events)
			if errors.Is(err, explain.ErrUnknown) && last {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "no request was denied")
				return err
			}
			if err != nil {
				return &usageError{err: fmt.Errorf("%w: %s", err, id)}
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(explanation)
			}
			return explanation.Write(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&last, "last-denied", false, "the latest request that was denied")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
