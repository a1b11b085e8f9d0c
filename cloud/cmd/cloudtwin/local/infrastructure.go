package local

import (
	"errors"
	"os/exec"
	"syscall"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// infrastructure are the faults of the machine that a cloud or a node runs on.
var infrastructure = []error{
	hypervisor.ErrUnavailable, node.ErrBusy, node.ErrIdentity, node.ErrRemoved, operator.ErrNotRunning,
	store.ErrBusy, store.ErrDamaged, store.ErrFull, store.ErrUnreachable,
	iam.ErrRootKeyMissing, iam.ErrRootKeyDamaged, iam.ErrRootKeyMode, iam.ErrRootKeyElsewhere,
	iam.ErrTokenModule, iam.ErrToken, iam.ErrTokenPIN, iam.ErrTokenKey, exec.ErrNotFound,
	syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES, syscall.EROFS,
	syscall.ENOTDIR, syscall.ENOMEM,
}

// IsInfrastructure tells whether an error is the machine's fault and not the product's. more are further faults that
// only the caller knows.
func IsInfrastructure(err error, more ...error) bool {
	if _, ok := errors.AsType[*builder.Error](err); ok {
		return true
	}
	for _, list := range [][]error{infrastructure, more} {
		for _, fault := range list {
			if errors.Is(err, fault) {
				return true
			}
		}
	}
	return false
}
