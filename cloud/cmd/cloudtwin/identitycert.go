package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newIdentityCert(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "identitycert",
		Short: "Print the certificate that verifies instances' identity documents",
		Long: "Prints, in PEM, the certificate by which the signatures that instances find below\n" +
			"http://169.254.169.254/latest/dynamic/instance-identity/ are verified: signature, pkcs7 and rsa2048.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := o.client().IdentityCertificate(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
}
