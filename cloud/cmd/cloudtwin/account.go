package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/elb"
)

func newAccount(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Make accounts, list them, get their root users' keys",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{err: errors.New("names what to do: create, ls, keys or policy")}
		},
	}
	cmd.AddCommand(newAccountCreate(o), newAccountLs(o), newAccountKeys(o), newAccountPolicy(o))
	return cmd
}

func newAccountCreate(o *options) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an account with its root user",
		Long: "Makes an account with its root user and prints its number, which stays. 'cloudtwin account keys' gives the\n" +
			"root user's keys.",
		Args: oneAccount,
		RunE: func(cmd *cobra.Command, args []string) error {
			account, err := o.client().CreateAccount(cmd.Context(), args[0], id)
			if err != nil {
				return asRefused(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), account.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "its number, twelve digits (default: one is chosen)")
	return cmd
}

func newAccountLs(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List accounts and what is accounted to them",
		Long: "Lists the accounts with their live instances, the live VMs of their load balancers, whoever owns those, " +
			"and\nthe memory of both; how many of each kind have ended; and the hours that all together were there.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			accounts, err := o.client().ListAccounts(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(accounts)
			}
			list := newTable(cmd.OutOrStdout(), "ACCOUNT", "NAME", "KIND", "INSTANCES", "LB VMS", "MEMORY",
				"ENDED", "LB ENDED", "HOURS", "LB HOURS")
			for _, a := range accounts {
				kind := "user"
				switch {
				case a.LinkedTo != "":
					kind = "linked to " + a.LinkedTo
				case a.System:
					kind = "system"
				}
				list.AppendRow(table.Row{a.ID, a.Name, kind, a.Instances, a.LoadBalancerVMs,
					fmt.Sprintf("%d MB", a.MemoryMB), a.Ended, a.EndedLoadBalancerVMs, fmt.Sprintf("%.2f", a.InstanceHours),
					fmt.Sprintf("%.2f", a.LoadBalancerHours)})
			}
			list.Render()
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newAccountKeys(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "keys NAME-OR-NUMBER",
		Short: "Print shell commands with an account's root user's keys",
		Long: "Prints shell commands with keys of an account's root user, made when they are first asked for. Use it " +
			"after\n'cloudtwin env', so:\n\n    eval \"$(cloudtwin account keys NAME)\"\n\nThe audit notes who asked.",
		Args: oneAccount,
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := o.client().AccountKeys(cmd.Context(), args[0])
			if err != nil {
				return asRefused(err)
			}
			printEnv(cmd.OutOrStdout(), [][2]string{
				{"AWS_ACCESS_KEY_ID", keys.AccessKeyID},
				{"AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey},
			})
			return nil
		},
	}
}

// oneAccount asks for an account's name or number.
func oneAccount(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return &usageError{err: errors.New("takes one account's name, or its number where there is one already")}
	}
	return nil
}

// checkOwner says what is wrong with the flag --lbvm-owner.
func checkOwner(owner string) error {
	if err := elb.Owner(owner).Validate(); err != nil {
		return fmt.Errorf("--lbvm-owner %w", err)
	}
	return nil
}

// checkRoleCredentialsLife says what is wrong with the flag --role-credentials-life.
func checkRoleCredentialsLife(life time.Duration) error {
	const shortest, longest = 15 * time.Minute, 12 * time.Hour
	if life < shortest || life > longest {
		return fmt.Errorf("--role-credentials-life %s: want %s to %s", life, shortest, longest)
	}
	return nil
}
