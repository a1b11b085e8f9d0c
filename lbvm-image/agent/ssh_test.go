package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/memnet"
)

// keyPair is a user's.
func keyPair(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// sshGuest is a web guest whose metadata has public keys, and its network.
type sshGuest struct {
	*guest
	net *memnet.Network
}

func bootSSH(t *testing.T, lines ...string) *sshGuest {
	t.Helper()
	network := &memnet.Network{}
	cloud := &fakeCloud{t: t, net: network}
	items := map[string]string{"instance-id": guestID, "local-ipv4": guestIP}
	for i, line := range lines {
		index := string(rune('0' + i))
		items["public-keys/"] += index + "=key" + index + "\n"
		items["public-keys/"+index+"/openssh-key"] = line
	}
	cloud.serve(imdsIP, ":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.WriteString(w, "imds-token")
			return
		}
		text, ok := items[strings.TrimPrefix(r.URL.Path, "/latest/meta-data/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, text)
	}), nil)
	host := network.Host(guestIP)
	ctx, stop := context.WithCancel(context.Background())
	g := &guest{t: t, cloud: cloud, console: newConsole(), done: make(chan error, 1), off: make(chan struct{}), stop: stop}
	go func() {
		g.done <- agent.RunWeb(ctx, agent.World{
			Dial: host.Dial, Listen: host.Listen, Now: time.Now, PowerOff: func() { close(g.off) }, Terminal: g.console,
			Console: agent.NewConsole(g.console, func() time.Duration { return 0 }),
		})
	}()
	t.Cleanup(func() {
		stop()
		<-g.off
	})
	return &sshGuest{g, network}
}

// login connects as user; the host key that the guest showed is returned too.
func (g *sshGuest) login(t *testing.T, user string, methods ...ssh.AuthMethod) (*ssh.Client, ssh.PublicKey, error) {
	t.Helper()
	conn, err := g.net.Host(gatewayIP).Dial(t.Context(), "tcp", net.JoinHostPort(guestIP, "22"))
	if err != nil {
		return nil, nil, err
	}
	var shown ssh.PublicKey
	c, channels, requests, err := ssh.NewClientConn(conn, guestIP, &ssh.ClientConfig{
		User: user, Auth: methods,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { shown = key; return nil },
	})
	if err != nil {
		_ = conn.Close()
		return nil, shown, err
	}
	client := ssh.NewClient(c, channels, requests)
	t.Cleanup(func() { _ = client.Close() })
	return client, shown, nil
}

func TestSSHRunsCommands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		signer, line := keyPair(t)
		g := bootSSH(t, line)
		g.expect(time.Second, 1, agent.StageSSH, "port=22")
		client, shown, err := g.login(t, "ec2-user", ssh.PublicKeys(signer))
		if err != nil {
			t.Fatal(err)
		}
		g.expect(0, 1, agent.StageSSH, "fingerprint="+ssh.FingerprintSHA256(shown))
		const name = "ip-10-64-0-5"
		block := "-----BEGIN SSH HOST KEY FINGERPRINTS-----\n256 " + ssh.FingerprintSHA256(shown) + " root@" + name +
			" (ED25519)\n-----END SSH HOST KEY FINGERPRINTS-----\n"
		g.console.mu.Lock()
		if raw := g.console.raw.String(); !strings.Contains(raw, block) {
			t.Errorf("the console has\n%s\nwithout\n%s", raw, block)
		}
		g.console.mu.Unlock()
		for _, tt := range []struct {
			command, stdin, stdout, stderr string
			code                           int
		}{
			{"hostname", "", name + "\n", "", 0},
			{"cat", "through\x00me", "through\x00me", "", 0},
			{"false", "", "", "", 1},
			{"nonesuch", "", "", "nonesuch: not found", 127},
			{"sh -c 'echo a b'", "", "a b\n", "", 0},
			{"exit 7", "", "", "", 7},
			{"cat /etc/passwd", "", "", "No such file", 1},
			{"echo a | wc", "", "", "one command at a time", 2},
			{"curl -s http://" + guestIP + "/health", "", "healthy " + guestID + "\n", "", 0},
			{"curl -f http://" + guestIP + ":81/", "", "", "Failed to connect", 7},
		} {
			session, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			session.Stdin, session.Stdout, session.Stderr = strings.NewReader(tt.stdin), &stdout, &stderr
			code := 0
			if err := session.Run(tt.command); err != nil {
				var ended *ssh.ExitError
				if !errors.As(err, &ended) {
					t.Fatalf("%s: %v", tt.command, err)
				}
				code = ended.ExitStatus()
			}
			if code != tt.code || stdout.String() != tt.stdout || !strings.Contains(stderr.String(), tt.stderr) ||
				tt.stderr == "" && stderr.Len() > 0 {
				t.Errorf("%s: %d, %q, %q; want %d, %q, %q", tt.command, code, &stdout, &stderr, tt.code, tt.stdout, tt.stderr)
			}
			_ = session.Close()
		}
	})
}

// TestSSHShell types what a person would.
func TestSSHShell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		signer, line := keyPair(t)
		g := bootSSH(t, line)
		g.expect(time.Second, 1, agent.StageSSH)
		client, _, err := g.login(t, "root", ssh.PublicKeys(signer))
		if err != nil {
			t.Fatal(err)
		}
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
			t.Fatal(err)
		}
		if err := session.WindowChange(50, 100); err != nil {
			t.Fatal(err)
		}
		var shown bytes.Buffer
		session.Stdin, session.Stdout = strings.NewReader("ecx\x7fho hi\rwrong\x15exit 3\r"), &shown
		if err := session.Shell(); err != nil {
			t.Fatal(err)
		}
		var ended *ssh.ExitError
		if err := session.Wait(); !errors.As(err, &ended) || ended.ExitStatus() != 3 {
			t.Errorf("the shell ended with %v, want 3", err)
		}
		const prompt = "ip-10-64-0-5:~# "
		want := prompt + "ecx\b \bho hi\r\nhi\r\n" + prompt + "wrong" + strings.Repeat("\b \b", 5) + "exit 3\r\n"
		if shown.String() != want {
			t.Errorf("the terminal shows %q, want %q", shown.String(), want)
		}
	})
}

func TestSSHRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		signer, line := keyPair(t)
		stranger, _ := keyPair(t)
		g := bootSSH(t, "ssh-ed25519 broken", line)
		g.expect(time.Second, 1, agent.StageSSH)
		for _, tt := range []struct {
			name    string
			methods []ssh.AuthMethod
		}{
			{"another key", []ssh.AuthMethod{ssh.PublicKeys(stranger)}},
			{"a password", []ssh.AuthMethod{ssh.Password("root")}},
			{"nothing", nil},
		} {
			if _, _, err := g.login(t, "root", tt.methods...); err == nil {
				t.Errorf("%s lets a client in", tt.name)
			}
		}
		client, _, err := g.login(t, "root", ssh.PublicKeys(signer))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Dial("tcp", imdsIP+":80"); err == nil {
			t.Error("a port is forwarded")
		}
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.RequestSubsystem("sftp"); err == nil {
			t.Error("a subsystem is served")
		}
	})
}

// TestSSHPowerOff ends the guest as its power button does, and with it the clients.
func TestSSHPowerOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		signer, line := keyPair(t)
		g := bootSSH(t, line)
		g.expect(time.Second, 1, agent.StageSSH)
		client, _, err := g.login(t, "root", ssh.PublicKeys(signer))
		if err != nil {
			t.Fatal(err)
		}
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		_ = session.Run("poweroff") // the connection may end before the answer
		<-g.off
		g.expect(0, 1, agent.StagePowerOff)
		if _, _, err := g.login(t, "root", ssh.PublicKeys(signer)); err == nil {
			t.Error("a guest that is off lets a client in")
		}
	})
}

// TestWithoutKeyNobodyListens on the port for SSH.
func TestWithoutKeyNobodyListens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := bootSSH(t)
		g.expect(time.Second, 1, agent.StageServing)
		synctest.Wait()
		if _, _, err := g.login(t, "root"); err == nil || g.console.find(agent.StageSSH) != 0 {
			t.Errorf("a guest without a key listens: %v", err)
		}
	})
}

// TestLoadBalancerLetsNobodyIn, though its metadata has a key.
func TestLoadBalancerLetsNobodyIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cloud := newCloud(t)
		var signer ssh.Signer
		signer, cloud.publicKey = keyPair(t)
		cloud.change(func(lb *servo.LoadBalancer) { lb.Listeners = []servo.Listener{httpListener(80)} })
		g := bootWithMedium(t, cloud)
		g.expect(time.Second, 1, agent.StageServing)
		synctest.Wait()
		lb := &sshGuest{g, cloud.net}
		if _, _, err := lb.login(t, "root", ssh.PublicKeys(signer)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("port 22 of a load balancer's guest: %v, want refused", err)
		}
		if g.console.find(agent.StageSSH) != 0 {
			t.Error("a load balancer's guest says that it lets people in")
		}
	})
}
