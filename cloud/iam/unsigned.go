package iam

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Unsigned is a delivery that the front door refused, because of its HTTP signature.
type Unsigned struct {
	RequestID, SourceIP string
	// AccessKeyID is the one that the request names; nobody knows whether by right.
	AccessKeyID string
	// CertificateARN is what it asks for.
	CertificateARN string
	// Code is what the caller is answered, Message what was wrong.
	Code, Message string
}

// AuditUnsigned records that check 1 of a delivery, which the front door makes, refused it. It returns when the record
// is on the disk; its error means that the record may be lost. Whoever fails this check needs no credentials, so only
// the first maxUnsigned refusals of a second are recorded one by one, and the next record counts the others.
func (s *Service) AuditUnsigned(ctx context.Context, u Unsigned) error {
	now := s.cfg.Clock()
	passed, goesOn := s.refusals.take(now)
	if !goesOn {
		return nil
	}
	attributes := map[string]string{
		"requestId": u.RequestID, "sourceIp": u.SourceIP, "arn": clipped(u.CertificateARN), "check": "1",
		"claimedAccessKeyId": clipped(u.AccessKeyID), "reason": u.Code, "detail": clipped(u.Message),
	}
	for name, value := range attributes {
		if value == "" {
			delete(attributes, name)
		}
	}
	if passed > 0 {
		attributes["unrecorded"] = strconv.Itoa(passed)
	}
	err := s.cfg.Journal.RecordSynced(ctx, journal.Event{Time: now, Kind: EventDenied, Attributes: attributes})
	if err != nil {
		return fmt.Errorf("audit delivery: %w", err)
	}
	return nil
}

// maxUnsigned bounds what callers without credentials may have the audit keep, in records a second.
const maxUnsigned = 20

// refusals counts those of the present second. The zero value is ready.
type refusals struct {
	mu     sync.Mutex
	second time.Time
	taken  int
	passed int // not recorded since the last that was
}

// take says whether one more refusal is recorded, and how many before it were not.
func (r *refusals) take(now time.Time) (passed int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if second := now.Truncate(time.Second); !second.Equal(r.second) {
		r.second, r.taken = second, 0
	}
	if r.taken == maxUnsigned {
		r.passed++
		return 0, false
	}
	r.taken++
	passed, r.passed = r.passed, 0
	return passed, true
}
