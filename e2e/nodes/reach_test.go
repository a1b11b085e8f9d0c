package nodes

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("A node whose cloud cannot be reached", Serial, func() {
	const lost, made = "no connection to the cloud at", "connected to the cloud at"

	It("says so once, and when it is there again", func(ctx context.Context) {
		n := cloud.AddNode("remote")
		n.Kill()
		status, err := cloud.Operator.Status(ctx)
		Expect(err).NotTo(HaveOccurred())
		way := newWay(status.NodeLink)
		begun := len(n.Log())
		said := func() string { return n.Log()[begun:] }

		n.Launch(way.listener.Addr().String())
		Eventually(way.refused.Load).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", 3))
		Expect(strings.Count(said(), lost)).To(Equal(1), said())
		Expect(said()).NotTo(ContainSubstring(made))
		way.open.Store(true)
		Eventually(said).WithTimeout(twin.ChangeTimeout).Should(ContainSubstring(made))
		Expect(strings.Count(said(), lost)).To(Equal(1), said())
		Expect(n.ExitCode()).To(Equal(-1), "it runs")
	})
})

// way is a way to the cloud that can be closed: then connections end as soon as they are made.
type way struct {
	listener net.Listener
	open     atomic.Bool
	refused  atomic.Int64
}

func newWay(target string) *way {
	GinkgoHelper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(listener.Close)
	w := &way{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if !w.open.Load() {
				w.refused.Add(1)
				_ = conn.Close()
				continue
			}
			go pass(conn, target)
		}
	}()
	return w
}

func pass(conn net.Conn, target string) {
	defer func() { _ = conn.Close() }()
	onward, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = onward.Close() }()
	go func() {
		_, _ = io.Copy(onward, conn)
		_ = onward.Close()
	}()
	_, _ = io.Copy(conn, onward)
}
