package scale

import (
	"errors"
	"fmt"
	"syscall"
)

// Open files: what the process has anyhow (etcd, API, clients), and what each node takes, which is both ends of its
// connection to the cloud, its lock, and a short while of its files.
const (
	filesAnyhow  = 512
	filesPerNode = 6
)

// raiseLimits takes as many open files as the run needs, as far as this process may.
func raiseLimits(cfg Config) error {
	need := uint64(filesAnyhow + filesPerNode*cfg.Nodes)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= need {
		return nil
	}
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: max(need, limit.Max)})
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%w: %d nodes need %d open files, and this process may have %d: raise the limit (ulimit -Hn, "+
			"/etc/security/limits.conf, or the container's nofile) or ask for at most %d nodes", ErrLimit, cfg.Nodes, need,
			limit.Max, (limit.Max-min(limit.Max, filesAnyhow))/filesPerNode)
	case err != nil:
		return fmt.Errorf("raise the limit of open files to %d: %w", need, err)
	}
	return nil
}
