package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// history is how many revisions are kept for those who read or watch from a while ago.
	history = 10_000
	// compactEach is how many more there are before the old ones are dropped. Dropping looks at every key, so that it
	// must not come often; between two times the database grows by as many records.
	compactEach = 10_000
	// compactLook is the pause between two looks at how many there are.
	compactLook = 5 * time.Second
)

// compactLoop keeps the embedded server's database from growing with the number of writes. etcd's own loop looks every
// five minutes, which is 100,000 writes when the cloud is busy.
func (s *Store) compactLoop(ctx context.Context) {
	tick := time.NewTicker(compactLook)
	defer tick.Stop()
	compacted := int64(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := s.server.Server.KV().Rev()
		if now-compacted < history+compactEach {
			continue
		}
		// A fault changes nothing but the size, and the next look tries again.
		if _, err := s.client.Compact(ctx, now-history); err == nil {
			compacted = now - history
		}
	}
}

// keysAtOnce bounds one answer that lists keys.
const keysAtOnce = 10_000

// Records returns how many records each table holds, by the table's name. Empty tables are left out.
func (s *Store) Records(ctx context.Context) (map[string]int64, error) {
	tables := map[string]int64{}
	for from := ""; ; {
		resp, err := s.client.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithKeysOnly(),
			clientv3.WithLimit(keysAtOnce))
		if err != nil {
			return nil, fmt.Errorf("count the records: %w", err)
		}
		for _, kv := range resp.Kvs {
			table, _, _ := strings.Cut(string(kv.Key), "/")
			tables[table]++
			from = string(kv.Key) + "\x00"
		}
		if !resp.More {
			return tables, nil
		}
	}
}
