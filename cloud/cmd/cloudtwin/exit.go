package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/scale"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/testrun"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/node"
)

// The exit codes, by who has to act: nobody, the product's developers, the user, whoever runs the machine.
const (
	exitOK             = 0
	exitProduct        = 1
	exitUsage          = 2
	exitInfrastructure = 3
	// exitInterrupted is the shell's convention for a command that its user ended with Ctrl-C.
	exitInterrupted = 130
)

// usageError is a command line that cannot be carried out.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nsee '%s --help'", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// started marks a command whose arguments were accepted: errors before that are the user's.
const started = "cloudtwin/started"

// asUsage makes a usageError of what went wrong before a command ran.
func asUsage(command *cobra.Command, err error) error {
	if usage, ok := errors.AsType[*usageError](err); ok {
		usage.command = command.CommandPath()
		return usage
	}
	if command.Annotations[started] != "" {
		return err
	}
	return &usageError{command: command.CommandPath(), err: err}
}

// infrastructure are the faults of the machine that only commands know; local.IsInfrastructure knows the others.
var infrastructure = []error{
	errUnfit, errUnscanned, scale.ErrLimit, testrun.ErrTools, testrun.ErrInfrastructure,
}

func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok || errors.Is(err, local.ErrForeign) {
		return exitUsage
	}
	if _, ok := errors.AsType[*childError](err); ok {
		return exitInfrastructure
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if local.IsInfrastructure(err, infrastructure...) {
		return exitInfrastructure
	}
	return exitProduct
}

// describe adds what to do next to faults whose makers cannot know the command line.
func describe(err error) string {
	text := "cloudtwin: " + err.Error()
	switch {
	case errors.Is(err, operator.ErrNotRunning):
		text += "\nstart one with 'cloudtwin up', or name its folder with --state"
	case errors.Is(err, node.ErrRemoved):
		text += "\nits guests were ended and its keys wiped; to join again, take a new token with 'cloudtwin node-token' " +
			"on the cloud's machine"
	case errors.Is(err, node.ErrIdentity):
		text += "\n'cloudtwin node --id' names a node, 'cloudtwin node-token' prints a token; 'cloudtwin down' begins anew"
	case errors.Is(err, syscall.EADDRINUSE):
		text += "\nanother program listens there; choose another address"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		text += "\nno network interface of this machine has that address; choose another one"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, store.ErrFull):
		text += "\nfree some disk space, then try again"
	}
	return text
}
