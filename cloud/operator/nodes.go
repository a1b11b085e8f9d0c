package operator

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// NodeAdmin is what an operator can do about nodes. An error that is a *Refusal is the operator's own mistake.
type NodeAdmin interface {
	// RemoveNode takes a node out of the cloud and ends its instances. PeerFrom tells who asks, for the audit.
	RemoveNode(ctx context.Context, nodeID, reason string) (NodeRemoval, error)
	// RenewNode has a node renew its NODECERT now, and returns what it then is.
	RenewNode(ctx context.Context, nodeID string) (Node, error)
}

// NodeRemoval is what followed from a node's removal.
type NodeRemoval struct {
	NodeID string `json:"nodeId"`
	Ended  int    `json:"ended"` // its instances
	Left   int    `json:"left"`  // nodes that can take instances
}

// NodeCertificate is a NODECERT.
type NodeCertificate struct {
	Serial   string    `json:"serial"` // hexadecimal
	NotAfter time.Time `json:"notAfter"`
	// Renewing says that the node was asked to renew it, or has been given the next and has not connected with it.
	Renewing bool `json:"renewing,omitempty"`
}

func handleNodes(mux *http.ServeMux, backend NodeAdmin) {
	mux.HandleFunc("POST /nodes/remove", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		removal, err := backend.RemoveNode(r.Context(), q.Get("node"), q.Get("reason"))
		reply(w, removal, err)
	})
	mux.HandleFunc("POST /nodes/renew", func(w http.ResponseWriter, r *http.Request) {
		node, err := backend.RenewNode(r.Context(), r.URL.Query().Get("node"))
		reply(w, node, err)
	})
}

// RemoveNode takes a node out of the cloud and ends its instances. The error is a *Refusal when there is no such node,
// or when it is that of the cloud's own process.
func (c *Client) RemoveNode(ctx context.Context, nodeID, reason string) (removal NodeRemoval, err error) {
	q := url.Values{"node": {nodeID}, "reason": {reason}}
	return removal, c.call(ctx, http.MethodPost, "/nodes/remove?"+q.Encode(), &removal)
}

// RenewNode has a node renew its NODECERT now, or as soon as it is connected. The error is a *Refusal when there is no
// such node.
func (c *Client) RenewNode(ctx context.Context, nodeID string) (node Node, err error) {
	q := url.Values{"node": {nodeID}}
	return node, c.call(ctx, http.MethodPost, "/nodes/renew?"+q.Encode(), &node)
}
