package badinput

import (
	"context"
	"net/url"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// etcd holds the cloud's records where the suite can see them.
type etcd struct {
	url    string
	client *clientv3.Client
}

// startEtcd starts an etcd for the suite, as an operator would who keeps the records elsewhere.
func startEtcd() *etcd {
	GinkgoHelper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name = GinkgoT().TempDir(), "records"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.UnsafeNoFsync = true
	cfg.TickMs, cfg.ElectionMs = 10, 50
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anyPort, anyPort
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = nil, anyPort
	cfg.InitialCluster = "records=http://127.0.0.1:0"
	server, err := embed.StartEtcd(cfg)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(server.Close)
	Eventually(server.Server.ReadyNotify()).WithTimeout(10 * time.Second).Should(BeClosed())
	e := &etcd{url: "http://" + server.Clients[0].Addr().String()}
	e.client, err = clientv3.New(clientv3.Config{Endpoints: []string{e.url}, Logger: zap.NewNop()})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(e.client.Close)
	return e
}

// snapshot returns the revision of every record: two are equal when nothing was written in between. What nodes report
// of themselves is left out.
func (e *etcd) snapshot() map[string]int64 {
	GinkgoHelper()
	resp, err := e.client.Get(context.Background(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	Expect(err).NotTo(HaveOccurred())
	Expect(resp.Kvs).NotTo(BeEmpty(), "records of the cloud")
	revisions := map[string]int64{}
	for _, kv := range resp.Kvs {
		if !strings.HasPrefix(string(kv.Key), "placement-nodes/") {
			revisions[string(kv.Key)] = kv.ModRevision
		}
	}
	return revisions
}

// quiet tells whether nothing is written for a while.
func (e *etcd) quiet() bool {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	for change := range e.client.Watch(ctx, "", clientv3.WithPrefix()) {
		if len(change.Events) > 0 {
			return false
		}
	}
	return true
}
