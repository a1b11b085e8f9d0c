package twin

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
)

// WaitForPort returns when the guest takes connections on a TCP port. It looks as ListensOn does, so the guest is
// one of image "web" that Launch started, unless the twin's node runs in the suite's process. A load balancer's
// guest is waited for by its listeners (LoadBalancer.Listener).
func (m *Machine) WaitForPort(port int) {
	ginkgo.GinkgoHelper()
	if m.twin.here == nil {
		i, err := m.twin.instance(context.Background(), m.ID)
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(i.SSH).NotTo(gomega.BeEmpty(), "%s lets nobody in: its ports are looked at from inside, which is "+
			"for guests of image %s that Launch started", m.ID, webImage)
	}
	m.eventually(func() bool { return m.ListensOn(port) }, "it listens on port %s", strconv.Itoa(port))
}

// ListensOn says whether the guest takes connections on a TCP port now.
//
// Where the twin's node runs in the suite's process (StartNodeHere) it connects through the node's network. A node
// that is a process of its own leads nobody into that network: there the guest itself is logged in to, by SSH like
// Run, and connects to its own address. It does so with curl, so what listens gets a GET / that it need not
// understand. What keeps others from the guest, such as BlockNetwork, also keeps ListensOn from asking; then it
// says no.
func (m *Machine) ListensOn(port int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	if m.twin.here == nil {
		return m.connectsToItself(ctx, port)
	}
	conn, err := m.Dial(ctx, port)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Dial connects to a TCP port of the guest, through the network of the twin's node, which must run in the suite's
// process (StartNodeHere).
func (m *Machine) Dial(ctx context.Context, port int) (net.Conn, error) {
	if m.twin.here == nil {
		return nil, fmt.Errorf("connect to port %d of %s: its node is a process of its own; start it with StartNodeHere",
			port, m.ID)
	}
	return m.twin.here.Network().Dial(ctx, m.ID, port)
}

// connectsToItself asks the guest to connect to a port of its own address.
func (m *Machine) connectsToItself(ctx context.Context, port int) bool {
	i, err := m.twin.instance(ctx, m.ID)
	if err != nil {
		return false
	}
	client, err := m.login()
	if err != nil {
		return false
	}
	defer client.Close()
	out, err := runIn(client, fmt.Sprintf("curl -s -S -m %d http://%s/", int(answerTime/time.Second),
		net.JoinHostPort(i.PrivateIP, strconv.Itoa(port))), "")
	return err == nil && connected(out)
}

// answerTime is how long a listener is given to answer. One that does not has taken the connection all the same:
// within a machine there is nothing on the way that could keep a refusal.
const answerTime = 5 * time.Second

// The exit statuses of curl by which it had a connection, be it that what answered spoke no HTTP (curlFailed) or
// did not answer at all (curlTimeout).
const (
	curlFailed  = 7
	curlTimeout = 28
)

// connected reads of curl's end whether it got a connection. One that could not be made is told as an error of a
// dial.
func connected(out Output) bool {
	switch out.Code {
	case 0, curlTimeout:
		return true
	case curlFailed:
		return !strings.Contains(out.Stderr, ": dial ")
	default:
		return false
	}
}
