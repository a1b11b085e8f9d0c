package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
)

func newImage(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Build and look at guest images", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newImageBuild(o), newImageLs(o), newImageInspect(o), newImageRegister(o))
	return cmd
}

func newImageBuild(o *options) *cobra.Command {
	cfg := builder.Config{}
	cmd := &cobra.Command{
		Use:   "build [NAME...]",
		Short: "Build the guest images (lbvm, web); what has not changed is not built again",
		Long: "Builds the guest images from Debian's generic kernel package, which is downloaded through apt into a\n" +
			"cache folder and not installed, or from a kernel of your own.",
		Args: func(_ *cobra.Command, args []string) error {
			for _, name := range args {
				cfg.Flavours = append(cfg.Flavours, builder.Flavour(name))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.OutDir = o.images
			cfg.CacheDir = filepath.Join(local.Cache(), "kernels")
			start := time.Now()
			cfg.Progress = func(step string) {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "image: %5.1fs %s\n", time.Since(start).Seconds(), step)
			}
			if err := cfg.Validate(); err != nil {
				return &usageError{err: err}
			}
			images, err := builder.Build(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			for _, image := range images {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", image.Name, image.Digest)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.KernelPath, "kernel", "", "your own kernel (bzImage or vmlinux); needs --modules")
	flags.StringVar(&cfg.ModulesDir, "modules", "", "folder of your own kernel's modules")
	flags.StringVar(
		&cfg.KernelPackage,
		"package",
		"",
		"Debian package of the kernel (default "+builder.DefaultKernelPackage+")",
	)
	flags.StringVar(&cfg.BusyBox, "busybox", "", "static BusyBox for the web image (default Debian's, none with --kernel)")
	flags.StringVar(&cfg.AgentBinary, "agent", "", "static agent binary (default: built from --source)")
	flags.StringVar(&cfg.SourceDir, "source", sourceDir(), "folder of cloudtwin's source, for building the agent")
	return cmd
}

// sourceDir is the nearest folder above with a go.mod, or empty.
func sourceDir() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

func newImageLs(o *options) *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List the guest images", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := builder.List(o.images)
			if err != nil {
				return err
			}
			t := newTable(cmd.OutOrStdout(), "NAME", "KERNEL", "DIGEST", "FOLDER")
			for _, image := range images {
				t.AppendRow(table.Row{image.Name, image.Manifest.KernelRelease, image.Digest, image.Dir})
			}
			t.Render()
			return nil
		}}
}

func newImageInspect(o *options) *cobra.Command {
	return &cobra.Command{Use: "inspect NAME", Short: "Print an image's manifest and check its files against it",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{err: errors.New("takes one argument, the image's name; 'cloudtwin image ls' lists them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			image, err := builder.Inspect(o.images, args[0])
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(image)
		}}
}
