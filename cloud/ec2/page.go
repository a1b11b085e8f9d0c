package ec2

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"sort"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// How many results a page has: where EC2 sets a least, and at most.
const (
	leastPage   = 5
	largestPage = 1000
)

// page cuts a list to MaxResults items that follow NextToken. The token names the last item that was given, so
// items that come or go in between neither repeat nor hide others. key must be unique, and the list in the order
// in which after(item, token's key) goes from false to true.
func page[T any](list []T, maxResults *int64, lowest int64, token *string, key func(T) string,
	after func(item T, last string) bool) (items []T, next *string, err error) {
	limit, last, err := bounds(maxResults, lowest, token)
	if err != nil {
		return nil, nil, err
	}
	if last != "" {
		list = list[sort.Search(len(list), func(i int) bool { return after(list[i], last) }):]
	}
	if limit == 0 || len(list) <= limit {
		return list, nil, nil
	}
	list = list[:limit]
	return list, tokenOf(key(list[limit-1])), nil
}

// bounds checks what a request says of the part of a list that it wants: at most limit items, 0 for all, after the one
// that last names, empty for the first.
func bounds(maxResults *int64, lowest int64, token *string) (limit int, last string, err error) {
	if maxResults != nil {
		if *maxResults < lowest || *maxResults > largestPage {
			return 0, "", model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Value ( %d ) for parameter maxResults is invalid. Expecting a value from %d to %d.", *maxResults, lowest,
				largestPage)
		}
		limit = int(*maxResults)
	} else if model.Val(token) != "" {
		limit = largestPage
	}
	if t := model.Val(token); t != "" {
		raw, err := base64.RawURLEncoding.DecodeString(t)
		if err != nil || len(raw) == 0 || len(t) > 1024 {
			return 0, "", model.Errorf("InvalidNextToken", http.StatusBadRequest, "The token '%.64s' is invalid", t)
		}
		last = string(raw)
	}
	return limit, last, nil
}

func tokenOf(last string) *string {
	return model.Ptr(base64.RawURLEncoding.EncodeToString([]byte(last)))
}

// instancePage is page of the instances that the caller may know and that keep lets through: it looks at no more of
// them than it takes to fill the page.
func (s *Service) instancePage(caller authn.Caller, maxResults *int64, token *string, keep func(*entry) bool) (
	[]*entry, *string, error) {
	limit, last, err := bounds(maxResults, leastPage, token)
	if err != nil {
		return nil, nil, err
	}
	list := s.view.listed(caller.AccountID, last, limit, func(e *entry) bool {
		return !e.inst.hiddenFrom(caller) && keep(e)
	})
	if limit == 0 || len(list) <= limit {
		return list, nil, nil
	}
	return list[:limit], tokenOf(entryKey(list[limit-1])), nil
}

// listed returns up to limit+1 of an account's instances in order, all with a limit of 0: those after the one with the
// key last that keep lets through. The slice is the caller's.
func (v *view) listed(account, last string, limit int, keep func(*entry) bool) []*entry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	list := v.accounts[account]
	if last != "" {
		list = list[sort.Search(len(list), func(i int) bool { return entryAfter(list[i], last) }):]
	}
	room := len(list)
	if limit > 0 {
		room = min(room, limit+1)
	}
	out := make([]*entry, 0, room)
	for _, e := range list {
		if limit > 0 && len(out) > limit {
			break
		}
		if keep(e) {
			out = append(out, e)
		}
	}
	return out
}

// entryKey is a text whose order is that of compareEntries.
func entryKey(e *entry) string {
	return fmt.Sprintf("%020d/%s/%06d/%s", e.inst.LaunchTime.UnixNano(), e.inst.ReservationID, e.inst.LaunchIndex,
		e.inst.ID)
}

func entryAfter(e *entry, last string) bool { return entryKey(e) > last }

// dryRun answers a request that only asks whether it would be allowed: when the handler is reached, it is.
func dryRun(asked *bool) error {
	if model.Val(asked) {
		return model.Errorf("DryRunOperation", http.StatusPreconditionFailed,
			"Request would have succeeded, but DryRun flag is set.")
	}
	return nil
}
