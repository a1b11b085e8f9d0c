package main

import (
	"context"
	"errors"
	"os/exec"
	"syscall"

	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// The exit codes are those of cloudtwin itself.
const (
	exitOK             = 0
	exitProduct        = 1
	exitUsage          = 2
	exitInfrastructure = 3
	exitInterrupted    = 130
)

// infrastructure are the faults of the machine that the benchmarks run on.
var infrastructure = []error{
	hypervisor.ErrUnavailable, node.ErrBusy, store.ErrBusy, store.ErrDamaged, store.ErrFull, exec.ErrNotFound,
	syscall.EADDRINUSE, syscall.ENOSPC, syscall.EACCES, syscall.EROFS, syscall.ENOMEM,
}

func isInfrastructure(err error) bool {
	if _, ok := errors.AsType[*builder.Error](err); ok {
		return true
	}
	for _, fault := range infrastructure {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// exitCode blames the product as soon as one of the failures is not the machine's.
func exitCode(ctx context.Context, failures []error) int {
	if ctx.Err() != nil {
		return exitInterrupted
	}
	code := exitOK
	for _, err := range failures {
		if !isInfrastructure(err) {
			return exitProduct
		}
		code = exitInfrastructure
	}
	return code
}
