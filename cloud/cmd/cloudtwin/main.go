// Command cloudtwin runs a cloud in a box and looks after it. Each command is in a file of its own and only
// parses, calls and prints; what it calls is package local (a cloud and a node on this machine), package demo
// (the main job) and the image builder.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := refuseCoreDumps(); err != nil {
		fmt.Fprintln(os.Stderr, describe(err))
		return exitInfrastructure
	}
	root := newRoot()
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	err = asUsage(command, err)
	fmt.Fprintln(os.Stderr, describe(err))
	return exitCode(err)
}
