package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

func newEnv(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print shell commands that point AWS clients at this cloud",
		Long:  "Prints shell commands that point AWS clients at this cloud. Use it so:\n\n    eval \"$(cloudtwin env)\"",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := o.client()
			status, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			keys, err := client.Credentials(cmd.Context())
			if err != nil {
				return err
			}
			printEnv(cmd.OutOrStdout(), [][2]string{
				{"AWS_ENDPOINT_URL", status.Endpoint},
				{"AWS_ACCESS_KEY_ID", keys.AccessKeyID},
				{"AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey},
				{"AWS_REGION", status.Region},
				{"AWS_DEFAULT_REGION", status.Region},
				{"AWS_EC2_METADATA_DISABLED", "true"},
				{"AWS_PAGER", ""},
				{"AWS_DATA_PATH", local.Layout(o.state).ClientData()},
				{"CLOUDTWIN_CA", status.CAFile},
			})
			return nil
		},
	}
}

func printEnv(w io.Writer, vars [][2]string) {
	_, _ = fmt.Fprintln(w, "unset AWS_SESSION_TOKEN AWS_PROFILE AWS_CA_BUNDLE")
	for _, v := range vars {
		_, _ = fmt.Fprintf(w, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
}
