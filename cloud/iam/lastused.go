package iam

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// lastUse is the last time that a principal or access key was used for a service, to the minute.
type lastUse struct {
	At      time.Time
	Service string
	Region  string
	ARN     string // of the caller
	Action  string
}

// useKey names what was used: an access key, with an empty service, or a principal by account and id.
type useKey struct{ of, service string }

func (k useKey) record() string { return k.of + "/" + k.service }

// useLog notes uses. What it says reaches the store a little later, once a minute at most for each principal and
// service: it tells people what is in use and decides nothing.
type useLog struct {
	table *store.Table[lastUse]
	limit int
	clock func() time.Time
	queue chan useKey

	mu   sync.Mutex
	seen map[useKey]lastUse
	// unused says when the store was found to have no use, so that a role that nobody uses costs no reading each time.
	unused map[useKey]time.Time
}

const useQueue = 1024

// anyService stands for a principal's last use for whatever service.
const anyService = "*"

func newUseLog(s *store.Store, limit int, clock func() time.Time) *useLog {
	return &useLog{
		table: store.NewTable[lastUse](s, "iam-last-used"), limit: limit, queue: make(chan useKey, useQueue),
		clock: clock, seen: make(map[useKey]lastUse), unused: make(map[useKey]time.Time),
	}
}

// note takes up a use. It waits for nothing: when the store is too slow, the use is forgotten until the next one.
func (l *useLog) note(k useKey, u lastUse) {
	u.At = u.At.Truncate(time.Minute)
	l.mu.Lock()
	have, ok := l.seen[k]
	if ok && have.At.Equal(u.At) {
		l.mu.Unlock()
		return
	}
	if len(l.seen) >= l.limit {
		clear(l.seen)
	}
	l.seen[k] = u
	l.mu.Unlock()
	select {
	case l.queue <- k:
	default:
	}
}

// lastWrites is how long one write may take, and the end of the service to write what was noted.
const lastWrites = 2 * time.Second

// run writes what was noted until ctx ends, and then what is left.
func (l *useLog) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			l.drain(context.WithoutCancel(ctx))
			return
		case k := <-l.queue:
			l.write(context.WithoutCancel(ctx), k) // an end in the middle of it must not lose it
		}
	}
}

// drain writes what is left in the queue, for as long as lastWrites.
func (l *useLog) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWrites)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case k := <-l.queue:
			l.write(ctx, k)
		default:
			return
		}
	}
}

func (l *useLog) write(ctx context.Context, k useKey) {
	l.mu.Lock()
	u, ok := l.seen[k]
	l.mu.Unlock()
	if ok {
		ctx, cancel := context.WithTimeout(ctx, lastWrites)
		defer cancel()
		_ = l.table.Put(ctx, k.record(), u) // the next use is written again
	}
}

// last returns the last use, or store.ErrNotFound.
func (l *useLog) last(ctx context.Context, k useKey) (lastUse, error) {
	l.mu.Lock()
	u, ok := l.seen[k]
	looked, unused := l.unused[k]
	l.mu.Unlock()
	if ok {
		return u, nil
	}
	now := l.clock()
	if unused && now.Sub(looked).Abs() < time.Minute {
		return lastUse{}, store.ErrNotFound
	}
	u, err := l.table.Get(ctx, k.record())
	if isMissing(err) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.unused) >= l.limit {
			clear(l.unused)
		}
		l.unused[k] = now
	}
	return u, err
}

// services returns a principal's last uses, service by service.
func (l *useLog) services(ctx context.Context, of string) (map[string]lastUse, error) {
	recs, err := l.table.List(ctx, of+"/")
	if err != nil {
		return nil, err
	}
	out := make(map[string]lastUse)
	for _, u := range recs { // that of any service among them, which says the same as one of the others
		if have, ok := out[u.Service]; !ok || u.At.After(have.At) {
			out[u.Service] = u
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, u := range l.seen {
		if k.of == of && k.service != anyService {
			out[k.service] = u
		}
	}
	return out, nil
}

// NoteUse takes up that a caller was let do an action. Operations that need no permission tell it themselves.
func (s *Service) NoteUse(c *authn.Caller, action string) {
	if c.AccountID == "" || c.UserID == "" {
		return
	}
	service, _, _ := strings.Cut(action, ":")
	id, _, _ := strings.Cut(c.UserID, ":")
	if c.Kind == authn.KindFederated {
		return
	}
	u := lastUse{At: s.cfg.Clock().UTC(), Service: service, Region: s.cfg.Region, ARN: c.ARN, Action: action}
	s.uselog.note(useKey{of: c.AccountID + "/" + id, service: service}, u)
	s.uselog.note(useKey{of: c.AccountID + "/" + id, service: anyService}, u)
	if strings.HasPrefix(c.AccessKeyID, "AKIA") {
		s.uselog.note(useKey{of: c.AccessKeyID}, u)
	}
}

// GetAccessKeyLastUsed tells when a key of the caller's account was last used, and for what.
func (s *Service) GetAccessKeyLastUsed(
	ctx context.Context, in *iammodel.GetAccessKeyLastUsedInput,
) (*iammodel.GetAccessKeyLastUsedOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	keyID := model.Val(in.AccessKeyId)
	key, err := s.accessKeys.cached(ctx, keyID)
	if err == nil && key.AccountID != id {
		err = store.ErrNotFound
	}
	if isMissing(err) { // AWS says this, and not NoSuchEntity
		return nil, model.Errorf("AccessDenied", 403, "User %s is not authorized to perform: iam:GetAccessKeyLastUsed",
			authn.CallerFrom(ctx).ARN)
	}
	if err != nil {
		return nil, err
	}
	out := &iammodel.AccessKeyLastUsed{ServiceName: model.Ptr("N/A"), Region: model.Ptr("N/A")}
	u, err := s.uselog.last(ctx, useKey{of: keyID})
	if err := ignoreMissing(err); err != nil {
		return nil, err
	}
	if err == nil {
		out.LastUsedDate, out.ServiceName, out.Region = model.Ptr(u.At), model.Ptr(u.Service), model.Ptr(u.Region)
	}
	return &iammodel.GetAccessKeyLastUsedOutput{AccessKeyLastUsed: out, UserName: model.Ptr(key.UserName)}, nil
}

// roleLastUsed is what GetRole and the account's details say of a role's last use.
func (s *Service) roleLastUsed(ctx context.Context, r *roleRecord) (*iammodel.RoleLastUsed, error) {
	u, err := s.uselog.last(ctx, useKey{of: r.AccountID + "/" + r.ID, service: anyService})
	if err != nil {
		return &iammodel.RoleLastUsed{}, ignoreMissing(err)
	}
	return &iammodel.RoleLastUsed{LastUsedDate: model.Ptr(u.At), Region: model.Ptr(u.Region)}, nil
}
