package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

// tokenURIForm shows what a key on a token is called.
const tokenURIForm = "pkcs11:token=LABEL;object=KEY?module-path=/PATH.so&pin-source=file:/PATH" //nolint:gosec // no key

func newRootKey(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "root-key",
		Short: "Keep the key that seals the cloud's secrets on a token",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{err: errors.New("names what to do: create or move")}
		},
	}
	cmd.AddCommand(newRootKeyCreate(), newRootKeyMove(o))
	return cmd
}

func newRootKeyCreate() *cobra.Command {
	return &cobra.Command{
		Use:   "create URI",
		Short: "Make a key on a PKCS#11 token for 'cloudtwin up --root-key'",
		Long: "Makes an AES-256 key on a PKCS#11 token, which never leaves it: " + tokenURIForm + "\n" +
			"(RFC 7512). The file of pin-source holds the token user's PIN and is readable for its owner alone.",
		Args: oneTokenURI,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := iam.CreateTokenKey(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "made the key; start with 'cloudtwin up --root-key URI'")
			return err
		},
	}
}

func newRootKeyMove(o *options) *cobra.Command {
	var toFile bool
	cmd := &cobra.Command{
		Use:   "move URI",
		Short: "Move the root key from the file to a token, or back",
		Long: "Moves the root key of a state folder from its file to the key on a PKCS#11 token that the URI names, or\n" +
			"with --to-file back. No cloud may run there meanwhile. The key stays the same, so that nothing is sealed\n" +
			"anew; if somebody may have read the file, begin with an empty state folder instead.",
		Args: oneTokenURI,
		RunE: func(cmd *cobra.Command, args []string) error {
			place := "on the token"
			if toFile {
				place = "in the file"
			}
			if err := local.MoveRootKey(cmd.Context(), local.Layout(o.state), args[0], toFile); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "the root key is %s now\n", place)
			return err
		},
	}
	cmd.Flags().BoolVar(&toFile, "to-file", false, "from the token to the file")
	return cmd
}

func oneTokenURI(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{err: errors.New("takes one URI: " + tokenURIForm)}
	}
	return checkRootKey(args[0])
}

// checkRootKey says what is wrong with the URI of a key on a token, which may be empty.
func checkRootKey(uri string) error {
	if uri == "" {
		return nil
	}
	if _, err := iam.ParseTokenURI(uri); err != nil {
		return fmt.Errorf("root key: %w", err)
	}
	return nil
}
