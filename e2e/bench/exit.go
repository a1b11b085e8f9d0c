package main

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

// The exit codes are those of cloudtwin itself.
const (
	exitOK             = 0
	exitProduct        = 1
	exitUsage          = 2
	exitInfrastructure = 3
	exitInterrupted    = 130
)

// exitCode blames the product as soon as one of the failures is not the machine's.
func exitCode(ctx context.Context, failures []error) int {
	if ctx.Err() != nil {
		return exitInterrupted
	}
	code := exitOK
	for _, err := range failures {
		if !local.IsInfrastructure(err) {
			return exitProduct
		}
		code = exitInfrastructure
	}
	return code
}
