package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

func newImageRegister(o *options) *cobra.Command {
	var profile int
	cmd := &cobra.Command{
		Use:   "register NAME --delivery-profile 1|2",
		Short: "Say which profile of the key-delivery protocol an image's guests speak",
		Long: "Says which profile of the key-delivery protocol an image's guests speak: 2, or 1 for original Eucalyptus\n" +
			"load-balancer guests, which know RSA identities and a medium that stays. It counts from the next 'up' on.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{err: errors.New("takes one argument, the image's name; 'cloudtwin image ls' lists them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := local.Register(o.images, args[0], local.Registration{DeliveryProfile: keydelivery.Profile(profile)})
			if errors.Is(err, local.ErrRegistration) {
				return &usageError{err: err}
			}
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s delivery profile %d\n", args[0], profile)
			return nil
		},
	}
	cmd.Flags().IntVar(&profile, "delivery-profile", 0, "1 or 2 (required)")
	return cmd
}

// checkProfile says what is wrong with the flag --min-delivery-profile, where 0 stands for its default.
func checkProfile(profile int) error {
	if profile < 0 || profile > int(keydelivery.Profile2) {
		return fmt.Errorf("--min-delivery-profile %d: want 1 or 2", profile)
	}
	return nil
}
