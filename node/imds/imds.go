// Package imds is the instance metadata service that guests find at 169.254.169.254, version 1 (plain GET) and
// version 2 (with a session token), with the paths and answers of EC2's.
//
// Who asks is known from the request's context alone: package vnet vouches for the port that the connection came
// through. Nothing in a request can change it. What an instance is comes from a Source, which package controller
// implements; so do the credentials of its role, which are kept and renewed there.
//
// Start reading at New; tree.go has the paths, token.go the tokens. The service's rules are those of the EC2 User
// Guide, "Instance metadata and user data".
package imds

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of the protocol.
const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"             //nolint:gosec // a header's name
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds" //nolint:gosec // a header's name
)

const (
	minTTL = 1 * time.Second
	maxTTL = 21600 * time.Second
	// credentialsTimeout bounds how long a guest waits for the cloud to make credentials. SDKs try again by themselves.
	credentialsTimeout = 5 * time.Second
)

// Config says what the service works with. Source and InstanceFrom are needed.
type Config struct {
	Source Source
	// InstanceFrom tells the instance of a request's context, as vnet.InstanceFrom does.
	InstanceFrom func(ctx context.Context) (instanceID string, ok bool)
	// SetHopLimit, if set, bounds how far travels what is sent from now on over the connection of the context's request,
	// as vnet.SetHopLimit does.
	SetHopLimit func(ctx context.Context, hops int) error
	// TokenKey is 32 secret bytes that session tokens are made with. Whoever starts a service with the same key
	// accepts the tokens of the one before; nil means a random key.
	TokenKey []byte
	// Asked, if set, is told of every request once it was answered. It must not block.
	Asked  func(Request)
	Clock  func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means silence
}

// Validate reports all that is wrong with the configuration at once.
func (c Config) Validate() error {
	var errs []error
	if c.Source == nil {
		errs = append(errs, errors.New("source: missing"))
	}
	if c.InstanceFrom == nil {
		errs = append(errs, errors.New("instance from: missing"))
	}
	if c.TokenKey != nil && len(c.TokenKey) != tokenKeySize {
		errs = append(errs, fmt.Errorf("token key: %d bytes, must be %d", len(c.TokenKey), tokenKeySize))
	}
	return errors.Join(errs...)
}

// service answers requests.
type service struct {
	cfg    Config
	tokens minter
}

// New makes the service. It panics if cfg is not valid, since only a program's fault can make it so.
func New(cfg Config) http.Handler {
	if err := cfg.Validate(); err != nil {
		panic(fmt.Errorf("configure instance metadata service: %w", err))
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	key := cfg.TokenKey
	if key == nil {
		key = make([]byte, tokenKeySize)
		_, _ = rand.Read(key) // never fails
	}
	s := &service{cfg: cfg, tokens: minter{key: key}}
	return s.traced(s.answer)
}

// answer takes a request of a guest.
func (s *service) answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	id, ok := s.cfg.InstanceFrom(r.Context())
	if !ok {
		refuse(w, http.StatusForbidden)
		return
	}
	instance, ok := s.cfg.Source.Instance(id)
	if !ok {
		refuse(w, http.StatusNotFound)
		return
	}
	if instance.Options.Disabled {
		refuse(w, http.StatusForbidden)
		return
	}
	path := splitPath(r.URL.Path)
	isToken := len(path) == 3 && knownVersion(path[0]) && path[1] == "api" && path[2] == "token"
	switch {
	case isToken && r.Method == http.MethodPut:
		s.limitHops(r, max(1, instance.Options.HopLimit))
		s.putToken(w, r, instance)
	case isToken, r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(w, http.StatusMethodNotAllowed)
	default:
		s.get(w, r, path, instance)
	}
}

// limitHops is about the answer to a token request: that is what keeps a token from who is further away, and without a
// token the rest is as far as version 1 always was. The bound stays for the rest of the connection. Were it lifted for
// the next answer, the token's, which nobody far away has acknowledged, would be sent again without it.
func (s *service) limitHops(r *http.Request, hops int) {
	if s.cfg.SetHopLimit == nil {
		return
	}
	if err := s.cfg.SetHopLimit(r.Context(), hops); err != nil {
		s.cfg.Logger.Warn("limit hops of metadata", "error", err)
	}
}

// splitPath returns the parts of a path. Empty ones do not count: guests ask with and without slashes at the end, and
// some double them.
func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// putToken answers with a session token. Requests that went through a proxy get none: a proxy that a guest runs for
// others must not open the service to them.
func (s *service) putToken(w http.ResponseWriter, r *http.Request, instance Instance) {
	if len(r.Header.Values("X-Forwarded-For")) > 0 {
		refuse(w, http.StatusForbidden)
		return
	}
	seconds, err := strconv.ParseUint(r.Header.Get(ttlHeader), 10, 32)
	ttl := time.Duration(seconds) * time.Second
	if err != nil || ttl < minTTL || ttl > maxTTL {
		refuse(w, http.StatusBadRequest)
		return
	}
	token := s.tokens.mint(instance.ID, s.cfg.Clock().Add(ttl))
	w.Header().Set(ttlHeader, strconv.FormatUint(seconds, 10))
	if instance.Traceparent != "" {
		w.Header().Set(traceHeader, instance.Traceparent)
	}
	write(w, r, contentText, []byte(token))
}

// get answers with the item at a path.
func (s *service) get(w http.ResponseWriter, r *http.Request, path []string, instance Instance) {
	switch tokens := r.Header.Values(tokenHeader); {
	case len(tokens) > 0:
		left, ok := s.tokens.check(tokens[0], instance.ID, s.cfg.Clock())
		if !ok {
			refuse(w, http.StatusUnauthorized)
			return
		}
		w.Header().Set(ttlHeader, strconv.Itoa(int(left/time.Second)))
	case instance.Options.TokensRequired:
		refuse(w, http.StatusUnauthorized)
		return
	}
	if len(path) == 0 {
		write(w, r, contentText, []byte(strings.Join(versions, "\n")))
		return
	}
	if !knownVersion(path[0]) {
		refuse(w, http.StatusNotFound)
		return
	}
	found := s.tree(instance).find(path[1:])
	if found == nil {
		refuse(w, http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), credentialsTimeout)
	defer cancel()
	body, err := found.content(ctx)
	if err != nil {
		s.cfg.Logger.Warn("metadata", "instance", instance.ID, "path", r.URL.Path, "error", err)
		refuse(w, statusOf(err))
		return
	}
	if !instance.LaunchTime.IsZero() {
		w.Header().Set("Last-Modified", instance.LaunchTime.UTC().Format(http.TimeFormat))
	}
	write(w, r, found.contentType(), body)
}

func statusOf(err error) int {
	if errors.Is(err, ErrNoRole) {
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

// contentText is the type of all items but user data.
const contentText = "text/plain"

func write(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		// The guest may have gone. What it reads is its own, and no browser's page.
		_, _ = w.Write(body) //nolint:gosec // not HTML
	}
}

// refuse answers with an error page, whose form and title some clients show to people.
func refuse(w http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d - %s", status, http.StatusText(status))
	page := `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
 "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
<head><title>` + title + `</title></head>
<body><h1>` + title + `</h1></body>
</html>
`
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD, PUT")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(page)) // net/http leaves it out for HEAD
}
