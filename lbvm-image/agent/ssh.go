package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/shell"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/sshd"
)

// sshPort is the one that every client tries first.
const sshPort = 22

// serveSSH lets people into a web guest whose metadata has a public key, until ctx ends. A guest without one listens
// nowhere. What goes wrong leaves the guest as it is: it is there to answer HTTP.
func (s *site) serveSSH(ctx context.Context, world World, client *metadata.Client) {
	keys, err := publicKeys(ctx, world.Logger, client)
	if err == nil && len(keys) > 0 {
		s.learnAbout(ctx, client, world.Logger)
	}
	client.Rest()
	if err != nil || len(keys) == 0 {
		return
	}
	if err := s.listenSSH(ctx, world, keys); err != nil {
		world.Logger.Warn("no SSH", "error", err)
	}
}

// publicKeys asks the metadata service until it answers. A key that cannot be read is left out.
func publicKeys(ctx context.Context, logger *slog.Logger, client *metadata.Client) ([]ssh.PublicKey, error) {
	pause := backoff{first: firstRetry, max: maxRetry}
	var lines []string
	for {
		var err error
		lines, err = client.PublicKeys(ctx)
		if err == nil || errors.Is(err, metadata.ErrNone) {
			break
		}
		logger.Warn("public keys not learnt", "error", err)
		if !sleep(ctx, pause.next()) {
			return nil, context.Cause(ctx)
		}
	}
	var keys []ssh.PublicKey
	for _, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			logger.Warn("public key not read", "error", err)
			continue
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (s *site) listenSSH(ctx context.Context, world World, keys []ssh.PublicKey) error {
	// The guest's own, of randomness that no other guest has: its medium's seed came before.
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	listener, err := world.Listen("tcp", net.JoinHostPort("", strconv.Itoa(sshPort)))
	if err != nil {
		return fmt.Errorf("listen on port %d: %w", sshPort, err)
	}
	printHostKey(world.Terminal, host.PublicKey(), s.hostname)
	world.Console.Milestone(StageSSH, slog.String("port", strconv.Itoa(sshPort)),
		slog.String("fingerprint", ssh.FingerprintSHA256(host.PublicKey())))
	run := world.Shell
	if run == nil {
		machine := &shell.Machine{
			Hostname: s.hostname, Address: s.address, Began: s.began, Now: world.Now, Dial: world.Dial, PowerOff: s.powerOff,
		}
		run = machine.Run
	}
	return sshd.Serve(ctx, sshd.Config{Listener: listener, HostKey: host, Keys: keys, Run: run, Logger: world.Logger})
}

// printHostKey tells the key on the console in the blocks that cloud-init writes, by which users know that it is their
// guest that they talk to.
func printHostKey(w io.Writer, key ssh.PublicKey, hostname string) {
	if w == nil {
		return
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	// In one piece, so that no milestone comes in between.
	_, _ = fmt.Fprintf(w, "-----BEGIN SSH HOST KEY FINGERPRINTS-----\n256 %s root@%s (ED25519)\n"+
		"-----END SSH HOST KEY FINGERPRINTS-----\n-----BEGIN SSH HOST KEY KEYS-----\n%s root@%s\n"+
		"-----END SSH HOST KEY KEYS-----\n", ssh.FingerprintSHA256(key), hostname, line, hostname)
}

// about is what a web guest knows of itself beside its instance's id.
type about struct {
	hostname string // without a domain
	address  string
	began    time.Time
	powerOff func()
}

// learnAbout asks for what only commands want to know.
func (s *site) learnAbout(ctx context.Context, client *metadata.Client, logger *slog.Logger) {
	address, err := client.LocalIPv4(ctx)
	if err != nil {
		logger.Warn("address not learnt", "error", err)
		return
	}
	s.address, s.hostname = address, "ip-"+strings.ReplaceAll(address, ".", "-")
}
