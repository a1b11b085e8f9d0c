package twin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"golang.org/x/crypto/ssh"
)

// webImage is the one whose guests let people in.
const webImage = "web"

// keyPairName is the twin's key pair in its cloud.
const keyPairName = "twin"

// runTimeout bounds a command on a guest with an accelerator.
const runTimeout = 3 * time.Minute

// keyPair is the twin's own, with which it logs in to the guests that it launches. The private key stays in the suite's
// process.
type keyPair struct {
	once   sync.Once
	signer ssh.Signer
}

// Output is what a command in a guest printed and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int // exit status, 0 to 255, or GuestGone
}

// GuestGone is the Code of a command whose guest ended the connection before it told how the command ended, as
// "poweroff" has it do.
const GuestGone = -1

// logIn imports the twin's key pair, once, and returns its name.
func (t *Twin) logIn() *string {
	ginkgo.GinkgoHelper()
	t.pair.once.Do(func() {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "make the twin's key pair")
		t.pair.signer, err = ssh.NewSignerFromKey(private)
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "make the twin's key pair")
		_, err = t.EC2.ImportKeyPair(context.Background(), &ec2.ImportKeyPairInput{KeyName: aws.String(keyPairName),
			PublicKeyMaterial: ssh.MarshalAuthorizedKey(t.pair.signer.PublicKey())})
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "import the twin's key pair")
	})
	return aws.String(keyPairName)
}

// Run runs a command in a guest of image "web" that Launch started, by SSH, with stdin's texts as its input, and waits
// for its end. It waits for the guest to let it in first. A command that cannot be run at all fails the spec; how one
// that ran ended is for the spec to judge.
//
// In a real guest the command is BusyBox's shell's. A simulated one has no processes: it takes one command without a
// shell's syntax, of those that package lbvm-image/agent/shell has.
func (m *Machine) Run(command string, stdin ...string) Output {
	ginkgo.GinkgoHelper()
	var client *ssh.Client
	var err error
	m.eventually(func() bool {
		client, err = m.login()
		return err == nil
	}, "it lets the twin in (%s)", "port 22")
	defer client.Close()
	out, err := runIn(client, command, strings.Join(stdin, ""))
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "run %q in %s; so far it printed %+v", command, m.ID, out)
	return out
}

// runIn runs a command in a guest that let the twin in.
func runIn(client *ssh.Client, command, stdin string) (Output, error) {
	session, err := client.NewSession()
	if err != nil {
		return Output{}, err
	}
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader(stdin), &stdout, &stderr
	defer time.AfterFunc(runTimeout*scale(), func() { _ = client.Close() }).Stop()
	err = session.Run(command)
	out := Output{Stdout: stdout.String(), Stderr: stderr.String()}
	var ended *ssh.ExitError
	var gone *ssh.ExitMissingError
	switch {
	case errors.As(err, &ended):
		out.Code, err = ended.ExitStatus(), nil
	case errors.As(err, &gone), errors.Is(err, io.EOF):
		out.Code, err = GuestGone, nil
	}
	return out, err
}

// login connects to the guest, whose key must be the one that its console told.
func (m *Machine) login() (*ssh.Client, error) {
	if m.twin.pair.signer == nil {
		return nil, fmt.Errorf("log in to %s: it was not started by Launch with image %q", m.ID, webImage)
	}
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	i, err := m.twin.instance(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	told := Stages(m.Console(), "ssh")
	if i.SSH == "" || len(told) == 0 {
		return nil, fmt.Errorf("log in to %s: it is reached at %q and its console has told %d host keys", m.ID, i.SSH,
			len(told))
	}
	fingerprint, _ := told[len(told)-1]["fingerprint"].(string)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", i.SSH)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	c, channels, requests, err := ssh.NewClientConn(conn, i.SSH, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(m.twin.pair.signer)},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if got := ssh.FingerprintSHA256(key); got != fingerprint {
				return fmt.Errorf("the host key is %s, the console told %s", got, fingerprint)
			}
			return nil
		},
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}
