package placement

import (
	"context"
	"crypto/rand"
	"maps"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// presence is when nodes were last heard. A heartbeat changes only this, in memory; one process of the cloud writes
// what it heard as one record, about three times in each Config.DownAfter, however many nodes it serves.
type presence struct {
	id string // of this process's record

	mu    sync.Mutex
	heard map[string]time.Time // by this process or another
	news  map[string]int64     // by this process since the last record, in Unix milliseconds
}

// presenceRecord is what one process of the cloud has heard lately.
type presenceRecord struct {
	ID    string
	At    time.Time
	Heard map[string]int64 // node -> Unix milliseconds
}

// forgetPresence is the age, in units of Config.DownAfter, after which the record of a process is one of the past.
const forgetPresence = 20

func newPresence() *presence {
	return &presence{id: rand.Text(), heard: map[string]time.Time{}, news: map[string]int64{}}
}

// hear notes a sign of life that this process got.
func (p *presence) hear(nodeID string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heard[nodeID].Before(at) {
		p.heard[nodeID] = at
		p.news[nodeID] = at.UnixMilli()
	}
}

func (p *presence) last(nodeID string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[nodeID]
}

func (p *presence) forget(nodeID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.heard, nodeID)
	delete(p.news, nodeID)
}

func (p *presence) set(records []presenceRecord) {
	for i := range records {
		p.apply(store.Change[presenceRecord]{Key: records[i].ID, Value: &records[i]})
	}
}

// apply takes in what another process heard.
func (p *presence) apply(c store.Change[presenceRecord]) {
	if c.Value == nil || c.Key == p.id {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, ms := range c.Value.Heard {
		if at := time.UnixMilli(ms); p.heard[node].Before(at) {
			p.heard[node] = at
		}
	}
}

// take returns what is to be written, and begins anew.
func (p *presence) take() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := maps.Clone(p.news)
	clear(p.news)
	return news
}

// publish writes what this process heard since the last time. What cannot be written is heard again.
func (s *Service) publish(ctx context.Context) {
	news := s.presence.take()
	if len(news) == 0 {
		return
	}
	_ = s.presences.Put(ctx, s.presence.id, presenceRecord{ID: s.presence.id, At: s.cfg.Clock(), Heard: news})
}

// forgetProcesses removes the records of processes that ended long ago.
func (s *Service) forgetProcesses(ctx context.Context) error {
	records, err := s.presences.List(ctx, "")
	if err != nil {
		return err
	}
	for _, r := range records {
		if s.cfg.Clock().Sub(r.At) > forgetPresence*s.cfg.DownAfter {
			_ = s.presences.Delete(ctx, r.ID) // another process may have done it
		}
	}
	return nil
}
