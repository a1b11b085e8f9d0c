package twin

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Records are a cloud's records where a suite can see and change them: an etcd of the suite's own, as an operator has
// who keeps the records elsewhere.
type Records struct {
	// URL is what 'cloudtwin up' takes as --store.
	URL    string
	Client *clientv3.Client
}

// StartRecords starts an etcd for the suite or the spec, and ends it after that.
func StartRecords() *Records {
	ginkgo.GinkgoHelper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name = ginkgo.GinkgoT().TempDir(), "records"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.UnsafeNoFsync = true
	cfg.TickMs, cfg.ElectionMs = 10, 50
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anyPort, anyPort
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = nil, anyPort
	cfg.InitialCluster = "records=http://127.0.0.1:0"
	server, err := embed.StartEtcd(cfg)
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "start etcd")
	ginkgo.DeferCleanup(server.Close)
	gomega.Eventually(server.Server.ReadyNotify()).WithTimeout(startTimeout).Should(gomega.BeClosed(), "etcd's start")
	r := &Records{URL: "http://" + server.Clients[0].Addr().String()}
	r.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{r.URL}, Logger: zap.NewNop()})
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "connect to etcd")
	ginkgo.DeferCleanup(r.Client.Close)
	return r
}

// notKept are the tables of what nodes report of themselves and of their signs of life, and of when a key or a service
// was used last, which is written later than it happens.
var notKept = []string{"placement-nodes/", "placement-presence/", "iam-last-used/"}

// isNotKept tells whether a record is of such a table.
func isNotKept(key []byte) bool {
	return slices.ContainsFunc(notKept, func(table string) bool { return strings.HasPrefix(string(key), table) })
}

// Snapshot returns the revision of every record: two are equal when nothing was written in between. What nodes report
// of themselves is left out.
func (r *Records) Snapshot() map[string]int64 {
	ginkgo.GinkgoHelper()
	resp, err := r.Client.Get(context.Background(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	gomega.Expect(resp.Kvs).NotTo(gomega.BeEmpty(), "records of the cloud")
	revisions := map[string]int64{}
	for _, kv := range resp.Kvs {
		if !isNotKept(kv.Key) {
			revisions[string(kv.Key)] = kv.ModRevision
		}
	}
	return revisions
}

// Quiet tells whether nothing is written for a while.
func (r *Records) Quiet() bool {
	ginkgo.GinkgoHelper()
	const while = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), while)
	defer cancel()
	for change := range r.Client.Watch(ctx, "", clientv3.WithPrefix()) {
		for _, ev := range change.Events {
			if !isNotKept(ev.Kv.Key) {
				return false
			}
		}
	}
	return true
}
