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

// leakscanFlags are the flags of the command.
type leakscanFlags struct {
	files, store, nodes []string
	memory              bool
}

func newLeakscan(o *options) *cobra.Command {
	var f leakscanFlags
	cmd := &cobra.Command{
		Use:   "leakscan [PATH...]",
		Short: "Search files and memory for copies of private keys",
		Long: "Searches every file below the paths for the private keys of the cloud in --state (its own, its users',\n" +
			"its node's and those on media that lie there now) and for those in --key files: in DER, PEM, base64,\n" +
			"hexadecimal and raw, from 24 bytes on. Without a path it searches the state folder, its node's memory\n" +
			"folder, and the memory of the processes that use them: cloud, node and guests.\n" +
			"It prints place, offset and form of what it finds, never a key. Where a key must be is no finding.\n" +
			"Exit code 1: found, 3: something could not be looked at.",
		RunE: func(cmd *cobra.Command, paths []string) error {
			run, err := f.run(cmd.Context(), local.Layout(o.state), paths)
			defer func() {
				for _, k := range run.Keys {
					k.Wipe()
				}
			}()
			if err != nil {
				return err
			}
			report, err := run.Check(cmd.Context())
			for _, leak := range report.Leaks {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), leak)
			}
			for _, missing := range report.Missing {
				err = errors.Join(err, errors.New("not where it must be: "+missing))
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "searched for %d keys in %d trees and %d processes: %s\n", len(run.Keys),
				len(run.Trees), len(run.Processes), report)
			switch {
			case len(report.Leaks) > 0:
				return errors.Join(errLeak, err)
			case err != nil:
				return fmt.Errorf("%w: %w", errUnscanned, err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.files, "key", nil, "file with a private key in PEM to search for; may be repeated")
	flags.StringSliceVar(&f.store, "store", nil, "URLs of the cloud's external etcd cluster (default: what the state "+
		"folder says)")
	flags.StringArrayVar(&f.nodes, "node", nil, "state folder of a further node on this machine, whose keys, media and "+
		"memory are looked at too; may be repeated")
	flags.BoolVar(&f.memory, "memory", true, "without a path, search the memory of processes too (as root, or where "+
		"kernel.yama.ptrace_scope is 0)")
	return cmd
}

// run is what is to be looked at.
func (f *leakscanFlags) run(ctx context.Context, l local.Layout, paths []string) (leakscan.Run, error) {
	var r leakscan.Run
	var err error
	if r.Keys, err = keysToFind(ctx, l, f.files, f.store); err != nil {
		return r, err
	}
	sites := []site{{layout: l}}
	for _, dir := range f.nodes {
		if dir, err = filepath.Abs(dir); err != nil {
			return r, &usageError{err: fmt.Errorf("--node: %w", err)}
		}
		sites = append(sites, site{local.Layout(dir), filepath.Base(dir)})
	}
	for _, s := range sites {
		err := s.add(&r, l, len(paths) == 0 && f.memory)
		if _, usage := errors.AsType[*usageError](err); usage {
			return r, err
		}
		if err != nil {
			return r, fmt.Errorf("%w: %w", errUnscanned, err)
		}
	}
	if len(paths) > 0 {
		r.Trees = nil
	}
	for _, path := range paths {
		if path, err = filepath.Abs(path); err != nil {
			return r, &usageError{err: err}
		}
		r.Trees = append(r.Trees, path)
	}
	return r, nil
}

// keysToFind reads the keys of the state folder, if a cloud or node has one there, and those in files.
func keysToFind(ctx context.Context, l local.Layout, files, store []string) ([]leakscan.Key, error) {
	store, err := storeOf(l, store)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnscanned, err)
	}
	keys, err := leakscan.StateKeys(ctx, l.Cloud(), l.Node(), store...)
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

// storeOf is the external etcd cluster that a cloud's records are in: that of the flag --store or, without it, the one
// that its state folder tells of; none when they are in the folder.
func storeOf(l local.Layout, flag []string) ([]string, error) {
	if len(flag) > 0 {
		return flag, nil
	}
	return l.StoreEndpoints()
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
