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
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
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
	// ErrUnreachable means that etcd does not answer, or not for the moment, as without a leader. Whether a write was kept
	// is not known.
	ErrUnreachable = errors.New("etcd cannot be reached")
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
	// AnswerTimeout bounds each question to an external cluster, which ends with ErrUnreachable; zero means
	// DefaultAnswerTimeout. Watches wait for as long as their callers do.
	AnswerTimeout time.Duration
	// Written is told of each write once it is done, in the context that it was done with: which records, and by which
	// revision of the store. It must not write itself. Nil: nobody is told.
	Written func(ctx context.Context, revision int64, changes []Write)
	// Trouble is asked before etcd is; nil means never. For tests.
	Trouble Trouble
	// Durable asks the embedded server to sync every write to the disk. Without it a crash of the host (not
	// of the process) may lose the last writes, and writes are many times faster.
	Durable bool
}

// Write is one record that was written, never what is in it.
type Write struct {
	// Record is the table and the key, with a slash between.
	Record  string
	Deleted bool
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
	if c.AnswerTimeout < 0 {
		errs = append(errs, errors.New("store: AnswerTimeout must not be negative"))
	}
	return errors.Join(errs...)
}

// Store is an open set of records. Its methods may be called from any goroutine.
type Store struct {
	client *clientv3.Client
	server *embed.Etcd
	// room is asked before every write; its error, ErrFull, refuses the write. Nil with an external cluster, which
	// guards its own disk.
	room func() error
	// hear is Config.Written; nil when nobody is told.
	hear    func(ctx context.Context, revision int64, changes []Write)
	read    atomic.Uint64      // records, see RecordsRead
	watches atomic.Uint64      // begun so far
	stop    context.CancelFunc // ends the embedded server's loops
	done    sync.WaitGroup
}

// Open starts the embedded server or connects to the cluster and returns when records can be read and written.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 30 * time.Second
	}
	if cfg.AnswerTimeout == 0 {
		cfg.AnswerTimeout = DefaultAnswerTimeout
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
		DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", cfg.Endpoints, err)
	}
	if _, err := client.Status(ctx, cfg.Endpoints[0]); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: ask %s for its status: %w", ErrUnreachable, cfg.Endpoints[0], err),
			client.Close())
	}
	bounded(client, cfg.AnswerTimeout)
	troubled(client, cfg.Trouble)
	return &Store{client: client, hear: cfg.Written}, nil
}

func (s *Store) written(ctx context.Context, revision int64, record string, deleted bool) {
	if s.hear != nil {
		s.hear(ctx, revision, []Write{{Record: record, Deleted: deleted}})
	}
}

// Close ends the embedded server or the connection. Watches end with it.
func (s *Store) Close() error {
	if s.stop != nil {
		s.stop()
		s.done.Wait()
	}
	err := s.client.Close()
	if s.server != nil {
		s.server.Close()
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// readOptions are for reading what is there now. The embedded server is a cluster of one: what it has answered a write
// with it reads, so nobody else need be asked.
func (s *Store) readOptions() []clientv3.OpOption {
	if s.server == nil {
		return nil
	}
	return []clientv3.OpOption{clientv3.WithSerializable()}
}

// Size returns the bytes that the embedded server's database takes; zero for an external cluster.
func (s *Store) Size() int64 {
	if s.server == nil {
		return 0
	}
	return s.server.Server.Backend().Size()
}
