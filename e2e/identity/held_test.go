package identity

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// interval lies between the requests of a held connection.
const interval = 100 * time.Millisecond

// held is one TLS connection over which a page is asked for every interval.
type held struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	ended  chan struct{} // closed at the first request that failed, or at the end

	mu    sync.Mutex
	dials int
	good  int
	bad   error
}

// hold opens a connection and keeps it busy until stop, or until a request fails.
func hold(ctx context.Context, client *twin.Client, trusted ...*pki.Authority) *held {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(ctx)
	h := &held{cancel: cancel, ended: make(chan struct{})}
	web, err := client.HTTPClientTrusting(ctx, true, trusted...)
	Expect(err).NotTo(HaveOccurred())
	transport, ok := web.Transport.(*http.Transport)
	Expect(ok).To(BeTrue())
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		h.mu.Lock()
		h.dials++
		h.mu.Unlock()
		return dial(ctx, network, address)
	}
	h.done.Go(func() {
		defer GinkgoRecover()
		defer close(h.ended)
		defer transport.CloseIdleConnections()
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for ctx.Err() == nil {
			_, err := client.GetWith(context.WithoutCancel(ctx), web, "/")
			h.mu.Lock()
			if err != nil {
				h.bad = err
			} else {
				h.good++
			}
			h.mu.Unlock()
			if err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	DeferCleanup(h.stop)
	Eventually(h.answered).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", 1), "requests before anything")
	return h
}

func (h *held) answered() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.good
}

func (h *held) stop() {
	h.cancel()
	h.done.Wait()
}

// expectUnbroken expects further requests to be answered, all over the first connection, and ends it.
func (h *held) expectUnbroken() {
	GinkgoHelper()
	so := h.answered()
	Eventually(h.answered).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", so+3), "requests afterwards")
	h.stop()
	Expect(h.bad).NotTo(HaveOccurred(), "a request")
	Expect(h.dials).To(Equal(1), "connections")
}
