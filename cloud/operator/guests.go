package operator

import (
	"context"
	"net/http"
	"net/url"
)

// Guests is what an operator can do about guests, of whatever account. An error that is a *Refusal is the operator's
// own mistake.
type Guests interface {
	// RebootGuest has a guest rebooted, as RebootInstances does.
	RebootGuest(ctx context.Context, instanceID string) error
	// Screenshot returns a PNG of what a guest's display shows.
	Screenshot(ctx context.Context, instanceID string) ([]byte, error)
}

func handleGuests(mux *http.ServeMux, backend Guests) {
	mux.HandleFunc("POST /guests/reboot", func(w http.ResponseWriter, r *http.Request) {
		reply(w, "rebooting", backend.RebootGuest(r.Context(), r.URL.Query().Get("instance")))
	})
	mux.HandleFunc("GET /guests/screenshot", func(w http.ResponseWriter, r *http.Request) {
		png, err := backend.Screenshot(r.Context(), r.URL.Query().Get("instance"))
		reply(w, png, err)
	})
}

// RebootGuest has a guest rebooted. The error is a *Refusal when the instance is not known or does not run.
func (c *Client) RebootGuest(ctx context.Context, instanceID string) error {
	var answer string
	return c.call(ctx, http.MethodPost, "/guests/reboot?"+url.Values{"instance": {instanceID}}.Encode(), &answer)
}

// Screenshot returns a PNG of what a guest's display shows. The error is a *Refusal when the instance is not known,
// does not run or has no display.
func (c *Client) Screenshot(ctx context.Context, instanceID string) (png []byte, err error) {
	return png, c.call(ctx, http.MethodGet, "/guests/screenshot?"+url.Values{"instance": {instanceID}}.Encode(), &png)
}
