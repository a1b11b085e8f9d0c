package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
)

// errUnscanned means that something could not be looked at, so that nothing can be said.
var errUnscanned = errors.New("could not look everywhere")

// errLeak means that a key was found where it must not be.
var errLeak = errors.New("private keys are where they must not be; the lines above say where")

func newLeakscan(o *options) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "leakscan [PATH...]",
		Short: "Search files for copies of private keys",
		Long: "Searches every file below the paths, or below the state folder and its node's memory folder\n" +
			"when none is given, for the private keys of the cloud in --state (its own, its users' and its node's)\n" +
			"and for those in --key files: in DER, PEM, base64, hexadecimal and raw, from 24 bytes on.\n" +
			"It prints file, offset and form of what it finds, never a key. The key's own file is no finding.\n" +
			"Exit code 1: found, 3: something could not be looked at.",
		RunE: func(cmd *cobra.Command, paths []string) error {
			ctx := cmd.Context()
			keys, err := keysToFind(ctx, local.Layout(o.state), files)
			if err != nil {
				return err
			}
			defer func() {
				for _, k := range keys {
					k.Wipe()
				}
			}()
			if len(paths) == 0 {
				paths = existing(o.state, local.Layout(o.state).Media())
			}
			for i := range paths {
				if paths[i], err = filepath.Abs(paths[i]); err != nil {
					return &usageError{err: err}
				}
			}
			report, err := leakscan.Run{Keys: keys, Trees: paths}.Check(ctx)
			for _, leak := range report.Leaks {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), leak)
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "searched for %d keys: %s\n", len(keys), report)
			switch {
			case len(report.Leaks) > 0:
				return errors.Join(errLeak, err)
			case err != nil:
				return fmt.Errorf("%w: %w", errUnscanned, err)
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&files, "key", nil, "file with a private key in PEM to search for; may be repeated")
	return cmd
}

// keysToFind reads the keys of the state folder, if a cloud or node has one there, and those in files.
func keysToFind(ctx context.Context, l local.Layout, files []string) ([]leakscan.Key, error) {
	keys, err := leakscan.StateKeys(ctx, l.Cloud(), l.Node())
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || len(files) == 0) {
		return nil, fmt.Errorf("%w: %w", errUnscanned, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: --key: %w", errUnscanned, err)
		}
		// The key's own file is known by its full path.
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, &usageError{err: fmt.Errorf("--key: %w", err)}
		}
		key, err := leakscan.NewKey(path, text)
		clear(text)
		if err != nil {
			return nil, &usageError{err: fmt.Errorf("--key: %w", err)}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// existing leaves out folders that are not there.
func existing(paths ...string) []string {
	var there []string
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		}
	}
	return there
}
