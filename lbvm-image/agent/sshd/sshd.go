// Package sshd lets people into a guest by SSH: with the keys that its metadata service tells, as any user, and with
// nothing else. What a session runs is somebody else's: package shell where there are no processes, agent/guest where
// there are.
//
// Not in here: forwarding of ports, agents and screens, file transfer by SFTP, passwords. Whoever asks for those is
// refused.
package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits. A guest is small, and its port is open to whoever reaches it.
const (
	maxConnections   = 16 // at once; further ones wait
	maxSessions      = 10 // of one connection, as OpenSSH's MaxSessions
	maxTries         = 6  // keys that a client may offer, as OpenSSH's MaxAuthTries
	handshakeTimeout = 30 * time.Second
)

// Session is what a client wants to have run.
type Session struct {
	User    string
	Command string // empty means a shell to talk to
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	// Terminal is set when the client asked for one.
	Terminal *Terminal
}

// Terminal is the client's.
type Terminal struct {
	Name string // such as xterm-256color
	Size Size
	// Resized tells new sizes until the session ends.
	Resized <-chan Size
}

// Size of a terminal in characters.
type Size struct{ Columns, Rows uint32 }

// Run runs a session's command and returns its exit status, 0 to 255. It must return soon after ctx has ended, which
// happens when the client has gone.
type Run func(ctx context.Context, s Session) int

// Config of Serve. All but Logger are needed.
type Config struct {
	Listener net.Listener
	// HostKey is the guest's own, which no other guest may have.
	HostKey ssh.Signer
	// Keys are those that are let in.
	Keys   []ssh.PublicKey
	Run    Run
	Logger *slog.Logger // nil means silence
}

func (c Config) validate() error {
	var errs []error
	if c.Listener == nil {
		errs = append(errs, errors.New("no listener"))
	}
	if c.HostKey == nil {
		errs = append(errs, errors.New("no host key"))
	}
	if len(c.Keys) == 0 {
		errs = append(errs, errors.New("no key that would be let in"))
	}
	if c.Run == nil {
		errs = append(errs, errors.New("nothing to run"))
	}
	return errors.Join(errs...)
}

// server is one Serve.
type server struct {
	cfg      Config
	protocol *ssh.ServerConfig
}

// Serve answers until ctx ends, and then ends all sessions. It closes the listener.
func Serve(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("serve SSH: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{cfg: cfg}
	s.protocol = &ssh.ServerConfig{
		MaxAuthTries: maxTries, ServerVersion: "SSH-2.0-cloudtwin", PublicKeyCallback: s.admit,
	}
	s.protocol.AddHostKey(cfg.HostKey)
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = cfg.Listener.Close() })()
	slots := make(chan struct{}, maxConnections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := cfg.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serve SSH: %w", err)
		}
		work.Go(func() {
			defer func() { <-slots }()
			s.connection(ctx, conn)
		})
	}
}

// admit lets in who has one of the keys, whatever the user's name: there is one user in the guest.
func (s *server) admit(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
	for _, key := range s.cfg.Keys {
		if bytes.Equal(key.Marshal(), offered.Marshal()) {
			return &ssh.Permissions{}, nil
		}
	}
	return nil, errors.New("the key is not one of the guest's")
}

// connection serves one client until it leaves or ctx ends.
func (s *server) connection(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	client, channels, requests, err := ssh.NewServerConn(conn, s.protocol)
	if err != nil {
		s.cfg.Logger.Debug("SSH client refused", "error", err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	go ssh.DiscardRequests(requests)
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer cancel()
	slots := make(chan struct{}, maxSessions)
	for asked := range channels {
		if asked.ChannelType() != "session" {
			_ = asked.Reject(ssh.UnknownChannelType, "only sessions are served here")
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = asked.Reject(ssh.ResourceShortage, "too many sessions")
			continue
		}
		channel, requests, err := asked.Accept()
		if err != nil {
			return
		}
		sessions.Go(func() {
			defer func() { <-slots }()
			s.session(ctx, client.User(), channel, requests)
		})
	}
}
