// Package operator is the back door of a running cloud for whoever runs it: a unix socket in the state folder,
// reachable by its owner alone, over which the command line asks for the status, follows the journal, makes
// enrolment tokens and stops the cloud. It speaks JSON over HTTP. What a user of the cloud may do goes through the
// AWS APIs instead.
package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// Status is what runs.
type Status struct {
	PID           int            `json:"pid"`
	StateDir      string         `json:"stateDir"`
	Endpoint      string         `json:"endpoint"`    // for users, http
	TLSEndpoint   string         `json:"tlsEndpoint"` // for guests and for users who want TLS
	NodeLink      string         `json:"nodeLink"`    // host:port for nodes
	CAFile        string         `json:"caFile"`
	Region        string         `json:"region"`
	Nodes         []Node         `json:"nodes"`
	Instances     []Instance     `json:"instances"`
	LoadBalancers []LoadBalancer `json:"loadBalancers"`
}

// Node is a hypervisor host.
type Node struct {
	ID           string `json:"id"`
	State        string `json:"state"` // up, down
	Hypervisor   string `json:"hypervisor"`
	Accelerator  string `json:"accelerator"`
	MemoryMB     uint64 `json:"memoryMB"`
	MemoryFreeMB uint64 `json:"memoryFreeMB"`

	Certificate NodeCertificate `json:"certificate"`
}

// Instance is a guest.
type Instance struct {
	ID        string    `json:"id"`
	AccountID string    `json:"accountId"`
	OwnedFor  string    `json:"ownedFor,omitempty"` // the account whose load balancer it serves
	Name      string    `json:"name"`               // its Name tag
	Image     string    `json:"image"`
	NodeID    string    `json:"nodeId"`
	State     string    `json:"state"`
	Reason    string    `json:"reason,omitempty"`
	PrivateIP string    `json:"privateIp"`
	SSH       string    `json:"ssh,omitempty"`    // host:port of its port 22, for one with a key pair
	Stage     string    `json:"stage"`            // the last milestone
	Guests    string    `json:"guests,omitempty"` // how it was started: fork, pooled, cold, sim
	Launched  time.Time `json:"launched"`
	// Identity tells the LBCERT of a load balancer's VM; nil for other guests.
	Identity    *Identity `json:"identity,omitempty"`
	ConsolePath string    `json:"consolePath"`
}

// Identity is an LBCERT.
type Identity struct {
	Serial   string    `json:"serial,omitempty"` // hexadecimal, as in the audit; empty for one that is not on record
	NotAfter time.Time `json:"notAfter,omitzero"`
	Renewals int       `json:"renewals"` // so far
	// Renewing says that a new one is on its way to the guest.
	Renewing bool `json:"renewing,omitempty"`
	// Failures are the renewals in a row that the guest did not take.
	Failures int `json:"failures,omitempty"`
}

// LoadBalancer is a load balancer of some account.
type LoadBalancer struct {
	Name      string     `json:"name"`
	AccountID string     `json:"accountId"`
	DNSName   string     `json:"dnsName"`
	Instances []string   `json:"instances"` // its LBVMs
	Listeners []Listener `json:"listeners"`
}

// Listener is a port of a load balancer and where the host reaches it.
type Listener struct {
	Protocol    string `json:"protocol"`
	Port        int    `json:"port"`
	HostAddress string `json:"hostAddress"`
	Certificate string `json:"certificate,omitempty"`
}

// Credentials are the root user's of the cloud's first account.
type Credentials struct {
	AccountID       string `json:"accountId"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// Backend is what the socket is a door to.
type Backend interface {
	Accounts
	Faults
	Guests
	IAMCerts
	IdentityCerts
	LBVMs
	NodeAdmin
	Status(ctx context.Context) (Status, error)
	// Credentials gives the keys with which the AWS APIs may be used.
	Credentials(ctx context.Context) (Credentials, error)
	// NewNodeToken makes a one-time token with which a node enrols.
	NewNodeToken(ctx context.Context) (string, error)
	// Follow sends events that are remembered and then new ones until ctx ends.
	Follow(ctx context.Context) <-chan journal.Event
	// Request returns the events of one request, none when it is not known. An empty id means the latest request that
	// was denied.
	Request(ctx context.Context, id string) ([]journal.Event, error)
	// Shutdown begins the cloud's end and returns at once.
	Shutdown()
}

// Listen makes the socket at path, mode 0600, in place of one that a dead process left. Clients may connect from
// then on; Serve answers them.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old operator socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on operator socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect operator socket: %w", err), listener.Close())
	}
	return listener, nil
}

// Serve answers on a listener, which it closes, until ctx ends.
func Serve(ctx context.Context, listener net.Listener, backend Backend) error {
	server := &http.Server{Handler: handler(ctx, backend), ReadHeaderTimeout: 5 * time.Second, ConnContext: withPeer,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { ended <- end(server) })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve operator socket: %w", err)
	}
	return <-ended
}

// end lets answers that are on their way go out, that to /shutdown among them.
func end(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}

func handler(running context.Context, backend Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		status, err := backend.Status(r.Context())
		reply(w, status, err)
	})
	mux.HandleFunc("GET /credentials", func(w http.ResponseWriter, r *http.Request) {
		credentials, err := backend.Credentials(r.Context())
		reply(w, credentials, err)
	})
	mux.HandleFunc("POST /node-token", func(w http.ResponseWriter, r *http.Request) {
		token, err := backend.NewNodeToken(r.Context())
		reply(w, token, err)
	})
	mux.HandleFunc("GET /request", func(w http.ResponseWriter, r *http.Request) {
		events, err := backend.Request(r.Context(), r.URL.Query().Get("id"))
		reply(w, events, err)
	})
	mux.HandleFunc("POST /shutdown", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, "stopping", nil)
		backend.Shutdown()
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/jsonl")
		encoder, flusher := json.NewEncoder(w), http.NewResponseController(w)
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(running, cancel)()
		for ev := range backend.Follow(ctx) {
			if encoder.Encode(ev) != nil || flusher.Flush() != nil {
				return
			}
		}
	})
	handleFaults(mux, backend)
	handleGuests(mux, backend)
	handleAccounts(mux, backend)
	handleIAMCerts(mux, backend)
	handleIdentityCerts(mux, backend)
	handleLBVMs(mux, backend)
	handleNodes(mux, backend)
	return recorded(backend, mux)
}

func reply(w http.ResponseWriter, value any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusInternalServerError
		if refusalOf(err) != nil {
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
		value = map[string]string{"error": err.Error()}
	}
	if err := json.NewEncoder(w).Encode(value); err != nil {
		slog.Debug("operator's answer was not read", "error", err)
	}
}
