package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// embeddedOps and clusterOps are how many operations a transaction may have; the second is etcd's default.
const (
	embeddedOps = 1024
	clusterOps  = 128
)

// wayOut is what an operator can do about a damaged folder.
const wayOut = "move the folder away to begin anew, or bring back a copy"

func startEmbedded(ctx context.Context, cfg Config) (*Store, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	room := func() error { return roomIn(cfg.Dir) }
	if err := room(); err != nil {
		return nil, err
	}
	fatal := &fatalCore{}
	ec := embeddedConfig(cfg, fatal)
	if err := probe(filepath.Join(ec.Dir, "member", "snap", "db")); err != nil {
		return nil, err
	}
	server, err := startServer(ec, fatal)
	if diskFull(err) {
		return nil, fmt.Errorf("%w: start etcd in %s: %w", ErrFull, cfg.Dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: start etcd in %s: %w; %s", ErrDamaged, cfg.Dir, err, wayOut)
	}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("%w: etcd in %s ended: %w", ErrDamaged, cfg.Dir, err)
	case <-ctx.Done():
		server.Close()
		return nil, fmt.Errorf("wait for etcd in %s: %w", cfg.Dir, ctx.Err())
	}
	s := &Store{client: v3client.New(server.Server), server: server, room: room, hear: cfg.Written}
	troubled(s.client, cfg.Trouble)
	// The store outlives the call that opens it; Close ends it.
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.compactLoop(loop) })
	return s, nil
}

func embeddedConfig(cfg Config, fatal *fatalCore) *embed.Config {
	ec := embed.NewConfig()
	ec.Dir = filepath.Join(cfg.Dir, "etcd")
	ec.Name = "cloudtwin"
	ec.InitialCluster = "cloudtwin=http://localhost:0"
	ec.UnsafeNoFsync = !cfg.Durable
	// Nobody connects from outside: the client talks to the server in memory.
	ec.ListenClientUrls, ec.AdvertiseClientUrls = nil, nil
	ec.ListenPeerUrls = nil
	ec.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:0"}}
	// A lone member need not wait for others to object: elections are settled in tens of milliseconds.
	ec.TickMs, ec.ElectionMs = 10, 50
	ec.QuotaBackendBytes = 8 << 30
	// A snapshot costs little here, and the log since the last one is kept in memory. No follower has to catch up.
	ec.SnapshotCount, ec.SnapshotCatchUpEntries = 5_000, 100
	ec.MaxWalFiles = 2
	ec.MaxTxnOps, ec.MaxRequestBytes = embeddedOps, 8<<20
	// etcd ends the process over damaged files; as a panic it can be turned into an error.
	quiet := zap.New(fatal, zap.WithFatalHook(zapcore.WriteThenPanic))
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quiet)
	return ec
}

// probe reads every page of the database, since etcd's own panic over a bad one is in a goroutine of its own and
// would end the process.
func probe(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 2 * time.Second})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s; stop that process or choose another state folder", ErrBusy, path)
	case err != nil:
		return fmt.Errorf("%w: open %s: %w; %s", ErrDamaged, path, err, wayOut)
	}
	err = errors.Join(readAll(db), db.Close())
	if err != nil {
		return fmt.Errorf("%w: read %s: %w; %s", ErrDamaged, path, err, wayOut)
	}
	return nil
}

// readAll visits every record. The database is mapped into memory, so that a file that is too short is a fault of
// the processor, which becomes a panic of this goroutine, like the database's own checks.
func readAll(db *bbolt.DB) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = describePanic(p)
		}
	}()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return visit(b, new(byte)) })
	})
}

// visit reads the end of every value into last, so that pages behind the file's end are noticed.
func visit(b *bbolt.Bucket, last *byte) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return visit(b.Bucket(k), last)
		}
		if len(v) > 0 {
			*last = v[len(v)-1]
		}
		return nil
	})
}

// startServer turns etcd's panics over damaged files into errors.
func startServer(ec *embed.Config, fatal *fatalCore) (e *embed.Etcd, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = nil, describePanic(p)
			if cause := fatal.cause(); cause != nil {
				err = fmt.Errorf("%w: %w", err, cause)
			}
		}
	}()
	return embed.StartEtcd(ec)
}

// describePanic makes an error of a recovered panic. What the runtime says of a fault means nothing to an operator.
func describePanic(p any) error {
	if _, ok := p.(runtime.Error); ok {
		return errors.New("the file is cut short or overwritten")
	}
	return fmt.Errorf("%v", p)
}

// fatalCore is a log that keeps nothing but the cause of a fatal entry, which the panic that follows does not carry.
type fatalCore struct {
	mu  sync.Mutex
	err error
}

var _ zapcore.Core = (*fatalCore)(nil)

// Enabled is true for what ends the process.
func (*fatalCore) Enabled(l zapcore.Level) bool { return l >= zapcore.PanicLevel }

// With drops the fields: the cause comes with the entry.
func (c *fatalCore) With([]zapcore.Field) zapcore.Core { return c }

// Check has Write called for what Enabled lets through.
func (c *fatalCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write keeps the error among the fields.
func (c *fatalCore) Write(_ zapcore.Entry, fields []zapcore.Field) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			c.err = err
		}
	}
	return nil
}

// Sync has nothing to write out.
func (*fatalCore) Sync() error { return nil }

func (c *fatalCore) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
