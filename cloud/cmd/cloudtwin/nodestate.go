package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

// registerNodeStates adds the flag that names nodes of this machine that have a state folder of their own.
func registerNodeStates(cmd *cobra.Command, dirs *[]string) {
	cmd.Flags().StringArrayVar(dirs, "node-state", nil, "state folder of a node on this machine that runs by itself; may "+
		"be repeated")
}

// nodeStates checks the folders of --node-state.
func nodeStates(dirs []string) ([]local.Layout, error) {
	var layouts []local.Layout
	for _, dir := range dirs {
		path, err := filepath.Abs(dir)
		if err != nil {
			return nil, &usageError{err: fmt.Errorf("--node-state: %w", err)}
		}
		layout := local.Layout(path)
		if _, err := os.Stat(layout.Mark()); err != nil {
			return nil, &usageError{err: fmt.Errorf("--node-state %s: no state folder of a node; expected what 'cloudtwin "+
				"node' was given as --state", dir)}
		}
		layouts = append(layouts, layout)
	}
	return layouts, nil
}

// readable checks files that a flag names.
func readable(flag string, paths []string) error {
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return &usageError{err: fmt.Errorf("%s %s: expected a file that is there", flag, path)}
		}
	}
	return nil
}
