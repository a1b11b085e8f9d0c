// Package store keeps typed records in etcd: an embedded server by default, an external cluster when endpoints
// are given. One code path serves both. It knows nothing of what the records mean; each service package owns its
// own tables.
//
// Read Open first, then Table (one kind of record), Txn (several records at once) and Watch.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Errors that callers test for with errors.Is.
var (
	ErrNotFound = errors.New("no such record")
	ErrExists   = errors.New("record exists")
	// ErrDamaged means that the state folder cannot be used as it is; the wrapping error says what to do.
	ErrDamaged = errors.New("state folder is damaged")
	// ErrBusy means that another process uses the state folder.
	ErrBusy = errors.New("state folder is in use")
	// ErrFull means that the disk or etcd's quota is used up; nothing was changed.
	ErrFull = errors.New("no space left for state")
)

// Config says where the records are. Exactly one of Dir and Endpoints is needed.
type Config struct {
	// Dir is the embedded server's folder; made with mode 0700 when missing.
	Dir string
	// Endpoints of an external etcd cluster, for example https://10.0.0.1:2379.
	Endpoints []string
	// TLS for an external cluster; nil means plain.
	TLS *tls.Config
	// StartTimeout bounds the start; zero means 30 s.
	StartTimeout time.Duration
	// Durable asks the embedded server to sync every write to the disk. Without it a crash of the host (not
	// of the process) may lose the last writes, and writes are many times faster.
	Durable bool
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" && len(c.Endpoints) == 0 {
		errs = append(errs, errors.New("store: Dir or Endpoints is required"))
	}
	if c.Dir != "" && len(c.Endpoints) > 0 {
		errs = append(errs, errors.New("store: Dir and Endpoints exclude each other"))
	}
	if c.StartTimeout < 0 {
		errs = append(errs, errors.New("store: StartTimeout must not be negative"))
	}
	return errors.Join(errs...)
}

// Store is an open set of records. Its methods may be called from any goroutine.
type Store struct {
	client *clientv3.Client
	server *embed.Etcd
}

// Open starts the embedded server or connects to the cluster and returns when records can be read and written.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	if len(cfg.Endpoints) > 0 {
		return connect(ctx, cfg)
	}
	return startEmbedded(ctx, cfg)
}

func connect(ctx context.Context, cfg Config) (*Store, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, TLS: cfg.TLS, DialTimeout: cfg.StartTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", cfg.Endpoints, err)
	}
	if _, err := client.Status(ctx, cfg.Endpoints[0]); err != nil {
		return nil, errors.Join(fmt.Errorf("ask etcd at %s for its status: %w", cfg.Endpoints[0], err), client.Close())
	}
	return &Store{client: client}, nil
}

func startEmbedded(ctx context.Context, cfg Config) (*Store, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	ec := embed.NewConfig()
	ec.Dir = filepath.Join(cfg.Dir, "etcd")
	ec.Name = "cloudtwin"
	ec.InitialCluster = "cloudtwin=http://localhost:0"
	ec.UnsafeNoFsync = !cfg.Durable
	// Nobody connects from outside: the client below talks to the server in memory.
	ec.ListenClientUrls, ec.AdvertiseClientUrls = nil, nil
	ec.ListenPeerUrls = nil
	ec.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:0"}}
	// A lone member need not wait for others to object: elections are settled in tens of milliseconds.
	ec.TickMs, ec.ElectionMs = 10, 50
	ec.QuotaBackendBytes = 8 << 30
	ec.AutoCompactionMode, ec.AutoCompactionRetention = embed.CompactorModeRevision, "10000"
	// etcd ends the process over damaged files; as a panic it can be turned into an error.
	quiet := zap.NewNop().WithOptions(zap.WithFatalHook(zapcore.WriteThenPanic))
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quiet)

	if err := probe(filepath.Join(ec.Dir, "member", "snap", "db")); err != nil {
		return nil, err
	}
	server, err := startServer(ec)
	if err != nil {
		return nil, fmt.Errorf("%w: start etcd in %s: %w; move the folder away to begin anew, or bring back a copy",
			ErrDamaged, cfg.Dir, err)
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
	return &Store{client: v3client.New(server.Server), server: server}, nil
}

// probe opens the database as etcd will, since etcd's own panic over a bad one is in a goroutine of its own.
func probe(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 2 * time.Second})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s; stop that process or choose another state folder", ErrBusy, path)
	case err != nil:
		return fmt.Errorf("%w: open %s: %w; move the folder away to begin anew, or bring back a copy",
			ErrDamaged, path, err)
	}
	return db.Close()
}

// startServer turns etcd's panics over damaged files into errors.
func startServer(ec *embed.Config) (e *embed.Etcd, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = nil, fmt.Errorf("%v", p)
		}
	}()
	return embed.StartEtcd(ec)
}

// Close ends the embedded server or the connection. Watches end with it.
func (s *Store) Close() error {
	err := s.client.Close()
	if s.server != nil {
		s.server.Close()
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Size returns the bytes that the embedded server's database takes; zero for an external cluster.
func (s *Store) Size() int64 {
	if s.server == nil {
		return 0
	}
	return s.server.Server.Backend().Size()
}
