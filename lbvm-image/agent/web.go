package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
)

const (
	webPort        = 80
	webDrain       = 2 * time.Second
	webReadTimeout = 30 * time.Second
)

// Echo is what the web guest answers: who answered, and what came through the load balancer.
type Echo struct {
	Instance   string      `json:"instance"`
	Method     string      `json:"method"`
	Path       string      `json:"path"` // with the query, as it came
	Host       string      `json:"host"`
	RemoteAddr string      `json:"remoteAddr"`
	Headers    http.Header `json:"headers"`
	Text       string      `json:"text"` // the user data
}

// RunWeb is the life of a web guest, a backend to look at: it learns who it is and answers HTTP on port 80, or the one
// that a line "port: N" of its user data names.
//
//	any  /health           200, or 503 while it fails
//	POST /control/fail     from now on 503 to everything but /control/
//	POST /control/recover  and back
//	any  other path        Echo as JSON, or as plain text to who accepts text/plain but not JSON
//
// People with the instance's key pair log in by SSH on port 22 (ssh.go).
//
// With World.Become it waits for its medium first, to learn which machine it is.
//
// It returns when ctx ends (nil) or when it cannot serve, and then switches the machine off like RunLBVM.
func RunWeb(ctx context.Context, world World) error {
	err := world.validateNetwork()
	if world.Become != nil {
		err = errors.Join(err, world.validateMedium())
	}
	if err != nil {
		return fmt.Errorf("run web guest: %w", err)
	}
	world = world.withDefaults()
	return world.end(ctx, runWeb(ctx, world))
}

func runWeb(ctx context.Context, world World) error {
	var boot keydelivery.Boot
	var err error
	if world.Become != nil {
		if boot, err = world.takeBoot(ctx); err != nil {
			return err
		}
	}
	client := metadata.New(metadata.Config{
		BaseURL: world.MetadataURL, Dial: world.Dial, Traceparent: boot.Traceparent,
	})
	defer client.Close()
	site, err := newSite(ctx, world, client)
	if err != nil {
		return err
	}
	listener, err := world.Listen("tcp", net.JoinHostPort("", strconv.Itoa(site.port)))
	if err != nil {
		return &fatal{phrase: "port cannot be opened", cause: err}
	}
	server := &http.Server{
		Handler:           site,
		ReadHeaderTimeout: webReadTimeout,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(world.Logger.Handler(), slog.LevelDebug),
	}
	var serveErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		serveErr = server.Serve(listener)
	}()
	world.Console.Milestone(StageServing, slog.String("port", strconv.Itoa(site.port)))
	ctx, stop := context.WithCancel(ctx)
	site.powerOff = stop
	var people sync.WaitGroup
	people.Go(func() { site.serveSSH(ctx, world, client) })
	defer people.Wait()
	defer stop()
	select {
	case <-ended:
		return &fatal{phrase: "port broke", cause: serveErr}
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), webDrain)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		_ = server.Close()
	}
	<-ended
	return nil
}

// site is what the web guest knows and its switch.
type site struct {
	about
	instance string
	text     string
	port     int
	failing  atomic.Bool
}

// newSite asks the metadata service until it answers.
func newSite(ctx context.Context, world World, client *metadata.Client) (*site, error) {
	began := world.Now()
	pause := backoff{first: firstRetry, max: maxRetry}
	for {
		s, err := askSite(ctx, client)
		if err == nil {
			s.about = about{hostname: s.instance, began: began}
			return s, nil
		}
		world.Logger.Warn("metadata service not asked", "error", err)
		if !sleep(ctx, pause.next()) {
			return nil, context.Cause(ctx)
		}
	}
}

func askSite(ctx context.Context, client *metadata.Client) (*site, error) {
	instance, err := client.InstanceID(ctx)
	if err != nil {
		return nil, fmt.Errorf("learn instance id: %w", err)
	}
	text, err := client.UserData(ctx)
	if err != nil && !errors.Is(err, metadata.ErrNone) {
		return nil, fmt.Errorf("learn user data: %w", err)
	}
	return &site{instance: instance, text: strings.ToValidUTF8(string(text), "\ufffd"), port: portOf(text)}, nil
}

// portOf finds the line "port: N" of user data; without one that makes sense the port is 80.
func portOf(userData []byte) int {
	for line := range bytes.Lines(userData) {
		value, found := bytes.CutPrefix(bytes.TrimSpace(line), []byte("port:"))
		if !found {
			continue
		}
		if port, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 16); err == nil && port > 0 {
			return int(port)
		}
	}
	return webPort
}

// ServeHTTP routes by hand: a ServeMux would clean paths by redirects, and this guest is there to show what came.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case r.Method == http.MethodPost && (path == "/control/fail" || path == "/control/recover"):
		s.failing.Store(path == "/control/fail")
		plain(w, http.StatusOK, fmt.Sprintf("%s failing=%t", s.instance, s.failing.Load()))
	case s.failing.Load():
		plain(w, http.StatusServiceUnavailable, "failing "+s.instance)
	case path == "/health":
		plain(w, http.StatusOK, "healthy "+s.instance)
	default:
		s.echo(w, r)
	}
}

func (s *site) echo(w http.ResponseWriter, r *http.Request) {
	e := Echo{
		Instance: s.instance, Method: r.Method, Path: r.URL.RequestURI(), Host: r.Host,
		RemoteAddr: r.RemoteAddr, Headers: r.Header, Text: s.text,
	}
	accept := r.Header.Get("Accept")
	if strings.Contains(accept, "text/plain") && !strings.Contains(accept, "json") {
		plain(w, http.StatusOK, e.text())
		return
	}
	body, err := json.Marshal(e)
	if err != nil {
		plain(w, http.StatusInternalServerError, "answer cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// text is the answer for people.
func (e Echo) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "instance: %s\nrequest: %s %s\nhost: %s\n", e.Instance, e.Method, e.Path, e.Host)
	for _, name := range sortedKeys(e.Headers) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(e.Headers[name], ", "))
	}
	if e.Text != "" {
		fmt.Fprintf(&b, "\n%s", e.Text)
	}
	return b.String()
}

func sortedKeys(h http.Header) []string {
	keys := make([]string, 0, len(h))
	for name := range h {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	return keys
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}
