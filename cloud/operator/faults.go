package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
)

// Faults is what an operator can do about faults. An error that is a *Refusal is the operator's own mistake, or says
// that a kind of fault cannot happen here.
type Faults interface {
	// AddFault adds a fault, whose time counts from now, and returns it as it is kept.
	AddFault(ctx context.Context, f fault.Fault) (fault.Fault, error)
	// Faults lists the faults that are loaded, by the time of their beginning.
	Faults(ctx context.Context) ([]play.Status, error)
	// ClearFaults ends the fault of that id, or all when it is empty.
	ClearFaults(ctx context.Context, id string) error
	// LoadFaults ends all faults and plays a schedule from now on.
	LoadFaults(ctx context.Context, s fault.Schedule) error
}

func handleFaults(mux *http.ServeMux, backend Faults) {
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, r *http.Request) {
		list, err := backend.Faults(r.Context())
		reply(w, list, err)
	})
	mux.HandleFunc("POST /faults/add", func(w http.ResponseWriter, r *http.Request) {
		var f fault.Fault
		if err := json.Unmarshal([]byte(r.URL.Query().Get("fault")), &f); err != nil {
			reply(w, nil, &Refusal{Message: fmt.Sprintf("read the fault: %v", err)})
			return
		}
		f, err := backend.AddFault(r.Context(), f)
		reply(w, f, err)
	})
	mux.HandleFunc("POST /faults/clear", func(w http.ResponseWriter, r *http.Request) {
		reply(w, "cleared", backend.ClearFaults(r.Context(), r.URL.Query().Get("id")))
	})
	mux.HandleFunc("POST /faults/load", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(io.LimitReader(r.Body, fault.MaxFile+1))
		if err != nil {
			reply(w, nil, fmt.Errorf("read the schedule: %w", err))
			return
		}
		s, err := fault.Parse(text)
		if err != nil {
			reply(w, nil, &Refusal{Message: err.Error()})
			return
		}
		reply(w, "loaded", backend.LoadFaults(r.Context(), s))
	})
}

// FaultAdd adds a fault, whose time counts from now, and returns it as it is kept. The error is a *Refusal when it is
// not valid, or cannot happen here.
func (c *Client) FaultAdd(ctx context.Context, f fault.Fault) (kept fault.Fault, err error) {
	text, err := json.Marshal(f)
	if err != nil {
		return kept, fmt.Errorf("write fault: %w", err)
	}
	return kept, c.call(ctx, http.MethodPost, "/faults/add?"+url.Values{"fault": {string(text)}}.Encode(), &kept)
}

// Faults lists the faults that are loaded, by the time of their beginning.
func (c *Client) Faults(ctx context.Context) (list []play.Status, err error) {
	return list, c.call(ctx, http.MethodGet, "/faults", &list)
}

// FaultClear ends the fault of that id, or all when it is empty. The error is a *Refusal when there is none.
func (c *Client) FaultClear(ctx context.Context, id string) error {
	var answer string
	return c.call(ctx, http.MethodPost, "/faults/clear?"+url.Values{"id": {id}}.Encode(), &answer)
}

// FaultLoad ends all faults and plays a schedule from now on. The error is a *Refusal when it is not valid, or one of
// its faults cannot happen here.
func (c *Client) FaultLoad(ctx context.Context, s fault.Schedule) error {
	var answer string
	return c.sendWithin(ctx, requestTimeout, http.MethodPost, "/faults/load", s.JSON(), &answer)
}
