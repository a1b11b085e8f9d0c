package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// largestPolicyFile bounds what is read of a policy's file, in bytes: a document has 5,120 characters, white space not
// counted.
const largestPolicyFile = 64 << 10

func newAccountPolicy(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Limit what an account may do, its root user included: service control policies",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{err: errors.New("names what to do: put, ls or rm")}
		},
	}
	cmd.AddCommand(newAccountPolicyPut(o), newAccountPolicyLs(o), newAccountPolicyRm(o))
	return cmd
}

func newAccountPolicyPut(o *options) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "put NAME-OR-NUMBER FILE",
		Short: "Add a service control policy to an account, or replace the one of that name",
		Long: "Adds the policy in FILE (- for standard input) to an account, at once for every request; it replaces " +
			"one of\nthe same name, which is the file's unless --name gives another. An account has at most five, and " +
			"a request\nneeds leave from each.",
		Args: needArgs(2, "takes an account's name or number, and a file with a policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := readPolicy(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(args[1]), filepath.Ext(args[1]))
			}
			policy := operator.AccountPolicy{Name: name, Document: document}
			return asRefused(o.client().PutAccountPolicy(cmd.Context(), args[0], policy))
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the policy's name (default: the file's)")
	return cmd
}

func readPolicy(stdin io.Reader, path string) (string, error) {
	from := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", &usageError{err: fmt.Errorf("read policy: %w", err)}
		}
		defer func() { _ = file.Close() }()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, largestPolicyFile+1))
	if err != nil {
		return "", &usageError{err: fmt.Errorf("read policy %s: %w", path, err)}
	}
	if len(text) > largestPolicyFile {
		return "", &usageError{err: fmt.Errorf("read policy %s: it has more than %d bytes", path, largestPolicyFile)}
	}
	return string(text), nil
}

func newAccountPolicyLs(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "ls NAME-OR-NUMBER",
		Short: "Print an account's service control policies",
		Args:  oneAccount,
		RunE: func(cmd *cobra.Command, args []string) error {
			policies, err := o.client().AccountPolicies(cmd.Context(), args[0])
			if err != nil {
				return asRefused(err)
			}
			for _, p := range policies {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n", p.Name, strings.TrimSpace(p.Document)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newAccountPolicyRm(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME-OR-NUMBER POLICY",
		Short: "Take a service control policy from an account",
		Args:  needArgs(2, "takes an account's name or number, and a policy's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asRefused(o.client().RemoveAccountPolicy(cmd.Context(), args[0], args[1]))
		},
	}
}

// needArgs asks for so many arguments, none of them empty.
func needArgs(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n || args[0] == "" || args[n-1] == "" {
			return &usageError{err: errors.New(what)}
		}
		return nil
	}
}
