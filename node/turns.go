package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/cloudtwin/cloudtwin/node/shares"
)

// wholeCore is what a guest that boots takes of the host's processor, in thousandths of a core.
const wholeCore = 1000

// bootTurn has the node's guests take turns at booting with those of all other nodes of this user on this host: one
// boot per core at a time. Nil for a node that boots none.
func bootTurn(cfg Config, id string) func(context.Context) (func(), error) {
	if cfg.Guests == GuestsSim {
		return nil
	}
	return func(ctx context.Context) (func(), error) {
		base, err := memoryBase()
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(base, runPrefix+strconv.Itoa(os.Getuid())+"-boots")
		return takeBootTurn(ctx, dir, runtime.NumCPU(), "node "+id, cfg.Logger)
	}
}

// takeBootTurn waits for one of as many turns as there are cores; all processes that name the same folder share them.
func takeBootTurn(ctx context.Context, dir string, cores int, who string, log *slog.Logger) (func(), error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the folder of boots on this host: %w", err)
	}
	if err := checkPrivate(dir); err != nil {
		return nil, err
	}
	pool := shares.Pool{Dir: dir, Total: shares.Share{MilliCores: cores * wholeCore}}
	lease, err := pool.Acquire(ctx, shares.Share{MilliCores: wholeCore}, who)
	if err != nil {
		return nil, fmt.Errorf("wait for a turn to boot on this host: %w", err)
	}
	return func() {
		if err := lease.Release(); err != nil {
			log.Warn("give on a turn to boot on this host", "error", err)
		}
	}, nil
}
