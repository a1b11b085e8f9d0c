package ec2

import (
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// page cuts a list to MaxResults items that follow NextToken. The token names the last item that was given, so
// items that come or go in between neither repeat nor hide others. key must be unique, and the list in the order
// in which after(item, token's key) goes from false to true.
func page[T any](list []T, maxResults *int64, lowest int64, token *string, key func(T) string,
	after func(item T, last string) bool) (items []T, next *string, err error) {
	limit := 1000
	if maxResults != nil {
		if *maxResults < lowest || *maxResults > 1000 {
			return nil, nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"Value ( %d ) for parameter maxResults is invalid. Expecting a value from %d to 1000.", *maxResults, lowest)
		}
		limit = int(*maxResults)
	} else if model.Val(token) == "" {
		return list, nil, nil
	}
	if t := model.Val(token); t != "" {
		last, err := base64.RawURLEncoding.DecodeString(t)
		if err != nil || len(last) == 0 || len(t) > 1024 {
			return nil, nil, model.Errorf("InvalidNextToken", http.StatusBadRequest, "The token '%.64s' is invalid", t)
		}
		from := len(list)
		for i, item := range list {
			if after(item, string(last)) {
				from = i
				break
			}
		}
		list = list[from:]
	}
	if len(list) <= limit {
		return list, nil, nil
	}
	list = list[:limit]
	return list, model.Ptr(base64.RawURLEncoding.EncodeToString([]byte(key(list[limit-1])))), nil
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
