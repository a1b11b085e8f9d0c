package placement_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func seal(purpose string, s keydelivery.Secret) (string, error) {
	return purpose + ":" + base64.StdEncoding.EncodeToString(s), nil
}

func unseal(purpose, sealed string) (keydelivery.Secret, error) {
	text, ok := strings.CutPrefix(sealed, purpose+":")
	if !ok {
		return nil, errors.New("sealed for another purpose")
	}
	return base64.StdEncoding.DecodeString(text)
}

type fixture struct {
	*placement.Service
	store   *store.Store
	ca      *placement.CA
	clock   *clock
	journal *journal.Journal
}

func start(t *testing.T, change func(*placement.Config)) *fixture {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f := &fixture{store: s, clock: newClock(), journal: journal.New(new(strings.Builder))}
	if f.ca, err = placement.OpenCA(t.Context(), placement.CAConfig{
		Store: s, Seal: seal, Open: unseal, Clock: f.clock.Now,
	}); err != nil {
		t.Fatal(err)
	}
	cfg := placement.Config{Store: s, CA: f.ca, Clock: f.clock.Now, Journal: f.journal}
	if change != nil {
		change(&cfg)
	}
	if f.Service, err = placement.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func request(t *testing.T, key any, name string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (f *fixture) addNode(t *testing.T, id string, status placement.Status) *x509.Certificate {
	t.Helper()
	token, err := f.NewToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := f.Enrol(t.Context(), token, id, request(t, newKey(t), id))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Report(t.Context(), id, &status); err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestChoose(t *testing.T) {
	images := map[string]string{"web": "sha256:aa"}
	f := start(t, func(c *placement.Config) { c.VCPUsPerCore, c.GuestOverheadMB = 4, 10 })
	ctx := t.Context()
	need := placement.Need{MemoryMB: 90, VCPUs: 1, Image: "web"}
	var full *placement.NoCapacityError
	if _, _, err := f.Choose(ctx, need); !errors.As(err, &full) || !errors.Is(err, placement.ErrNoCapacity) {
		t.Fatalf("without nodes: %v", err)
	}
	f.addNode(t, "small", placement.Status{MemoryMBTotal: 150, MemoryMBFree: 150, Cores: 1, Images: images})
	f.addNode(t, "big", placement.Status{MemoryMBTotal: 1000, MemoryMBFree: 1000, Cores: 2, Images: images})
	f.addNode(t, "bare", placement.Status{MemoryMBTotal: 5000, MemoryMBFree: 5000, Cores: 8})
	f.addNode(t, "busy", placement.Status{MemoryMBTotal: 5000, MemoryMBFree: 50, Cores: 8, Images: images})
	choices, err := f.Plan(ctx, need, 20)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, c := range choices {
		count[c.NodeID]++
		if c.ImageDigest != "sha256:aa" || c.Certificate.Subject.CommonName != c.NodeID {
			t.Errorf("choice %+v", c)
		}
	}
	// 150 MB hold one guest of 90 + 10, two cores hold eight.
	if count["small"] != 1 || count["big"] != 8 || len(count) != 2 {
		t.Errorf("placed %v, want 1 on small and 8 on big", count)
	}
	for _, tt := range []struct {
		name   string
		need   placement.Need
		reason string
	}{
		{name: "memory", need: placement.Need{MemoryMB: 2000, VCPUs: 1, Image: "web"}, reason: "memory"},
		{name: "cores", need: placement.Need{MemoryMB: 90, VCPUs: 9, Image: "web"}, reason: "cores"},
		{name: "image", need: placement.Need{MemoryMB: 90, VCPUs: 1, Image: "lbvm"}, reason: "image"},
		{name: "build", need: placement.Need{MemoryMB: 90, VCPUs: 1, Image: "web", Digest: "sha256:bb"}, reason: "image"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := f.Choose(ctx, tt.need)
			if !errors.Is(err, placement.ErrNoCapacity) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error %v, want one that names %s", err, tt.reason)
			}
		})
	}
}

func TestConcurrentReservationsDoNotOverbook(t *testing.T) {
	f := start(t, func(c *placement.Config) { c.GuestOverheadMB = 4 })
	const room = 7
	f.addNode(t, "node-1", placement.Status{MemoryMBTotal: room*100 + 50, MemoryMBFree: 10_000, Cores: 4})
	need := placement.Need{MemoryMB: 96, VCPUs: 1}
	var wg sync.WaitGroup
	placed := make(chan struct{}, 32)
	for range 32 {
		wg.Go(func() {
			ctx := context.Background()
			err := f.store.Txn(ctx, func(tx *store.Tx) error { return f.Reserve(tx, "node-1", need) })
			switch {
			case err == nil:
				placed <- struct{}{}
			case !errors.Is(err, placement.ErrNoCapacity):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(placed) != room {
		t.Fatalf("%d placed on a node with room for %d", len(placed), room)
	}
	if err := f.Refresh(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Choose(t.Context(), need); !errors.Is(err, placement.ErrNoCapacity) {
		t.Errorf("choose on a full node: %v", err)
	}
	if err := f.store.Txn(t.Context(), func(tx *store.Tx) error { return f.Release(tx, "node-1", need) }); err != nil {
		t.Fatal(err)
	}
	if err := f.Refresh(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if id, _, err := f.Choose(t.Context(), need); err != nil || id != "node-1" {
		t.Errorf("choose after a release: %s, %v", id, err)
	}
}

func TestWhatAGuestTakesIsTheNodesWord(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status placement.Status
		want   int
	}{
		// 24 GiB, of which a node offers nine tenths.
		{name: "booted by itself", want: 93},
		{name: "the same, said", status: placement.Status{GuestFixedMB: 140, GuestMemoryPercent: 100}, want: 93},
		{name: "forked", status: placement.Status{GuestFixedMB: 45}, want: 256}, // as many as the cores carry
		{name: "simulated, with many cores", status: placement.Status{GuestFixedMB: 1, Cores: 1000}, want: 22118},
		{name: "half of its memory", status: placement.Status{GuestFixedMB: 40, GuestMemoryPercent: 50}, want: 251},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, nil)
			st := tt.status
			st.MemoryMBTotal, st.MemoryMBFree, st.Cores = 22118, 24576, max(2, st.Cores)
			f.addNode(t, "node-1", st)
			need := placement.Need{MemoryMB: 96, VCPUs: 1}
			choices, err := f.Plan(t.Context(), need, 30000)
			if err != nil || len(choices) != tt.want {
				t.Fatalf("room for %d (%v), want %d", len(choices), err, tt.want)
			}
		})
	}
}

// A node that comes back with other guests is counted anew, and what it gave is taken back in full.
func TestWhatAGuestTakesChanges(t *testing.T) {
	f := start(t, nil)
	st := placement.Status{MemoryMBTotal: 500, MemoryMBFree: 10_000, Cores: 2, GuestFixedMB: 45}
	f.addNode(t, "node-1", st)
	need := placement.Need{MemoryMB: 96, VCPUs: 1}
	change := func(do func(*store.Tx) error) error { return f.store.Txn(t.Context(), do) }
	reserve := func(tx *store.Tx) error { return f.Reserve(tx, "node-1", need) }
	for i := range 3 {
		if err := change(reserve); err != nil {
			t.Fatalf("reserve %d: %v", i, err)
		}
	}
	st.GuestFixedMB, st.GuestMemoryPercent = 140, 100
	if err := f.Report(t.Context(), "node-1", &st); err != nil {
		t.Fatal(err)
	}
	if err := change(reserve); !errors.Is(err, placement.ErrNoCapacity) {
		t.Errorf("three guests of 236 MB and one more in 500 MB: %v", err)
	}
	for range 3 {
		if err := change(func(tx *store.Tx) error { return f.Release(tx, "node-1", need) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Refresh(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if l := f.Nodes()[0].Load; l.MemoryMB != 0 || l.VCPUs != 0 || l.Instances != 0 {
		t.Errorf("what is left of three released guests: %+v", l)
	}
}

func TestLiveness(t *testing.T) {
	f := start(t, nil)
	ctx := t.Context()
	f.addNode(t, "node-1", placement.Status{MemoryMBTotal: 1000, MemoryMBFree: 1000, Cores: 2})
	need := placement.Need{MemoryMB: 96, VCPUs: 1}
	for range 4 {
		f.clock.Add(20 * time.Second)
		if err := f.Report(ctx, "node-1", nil); err != nil {
			t.Fatal(err)
		}
		f.Sweep(ctx)
	}
	if _, _, err := f.Choose(ctx, need); err != nil {
		t.Fatalf("a node with a heart beat: %v", err)
	}
	f.clock.Add(31 * time.Second)
	if _, _, err := f.Choose(ctx, need); !errors.Is(err, placement.ErrNoCapacity) {
		t.Errorf("a silent node was chosen: %v", err)
	}
	f.Sweep(ctx)
	if nodes := f.Nodes(); !nodes[0].Node.Down {
		t.Error("a silent node is not marked down")
	}
	if err := f.Report(ctx, "node-1", nil); err != nil {
		t.Fatal(err)
	}
	if nodes := f.Nodes(); nodes[0].Node.Down {
		t.Error("a node that came back is still down")
	}
	var kinds []string
	for _, ev := range f.journal.Events() {
		kinds = append(kinds, ev.Kind)
	}
	if got := strings.Join(kinds, " "); got != "node.enrolled node.up node.down node.up" {
		t.Errorf("journal: %s", got)
	}
	if err := f.Report(ctx, "stranger", nil); !errors.Is(err, placement.ErrNoNode) {
		t.Errorf("report of an unknown node: %v", err)
	}
}

// Another process of the cloud hears of a node's life from the one that the node is connected to.
func TestProcessesShareTheSignsOfLife(t *testing.T) {
	const downAfter = time.Hour // so that nothing happens by itself
	f := start(t, func(c *placement.Config) { c.DownAfter = downAfter })
	f.addNode(t, "node-1", placement.Status{MemoryMBTotal: 1000, MemoryMBFree: 1000, Cores: 2})
	process := func() *placement.Service {
		s, err := placement.New(t.Context(), placement.Config{
			Store: f.store, CA: f.ca, Clock: f.clock.Now, DownAfter: downAfter,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	other := process()
	before := f.Nodes()[0].Node.Version
	f.clock.Add(50 * time.Minute)
	if err := f.Report(t.Context(), "node-1", nil); err != nil {
		t.Fatal(err)
	}
	f.Publish(t.Context())
	for deadline := time.Now().Add(time.Minute); other.Heard("node-1").Before(f.clock.Now().Add(-time.Second)); {
		if time.Now().After(deadline) {
			t.Fatal("the other process did not hear of it")
		}
		<-time.After(5 * time.Millisecond)
	}
	f.clock.Add(59 * time.Minute)
	need := placement.Need{MemoryMB: 96, VCPUs: 1}
	for name, s := range map[string]*placement.Service{"one that runs": other, "one that begins": process()} {
		s.Sweep(t.Context())
		if _, _, err := s.Choose(t.Context(), need); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := f.Nodes()[0].Node.Version; after != before {
		t.Errorf("%d writes of the node's record for a heartbeat", after-before)
	}
	f.clock.Add(2 * time.Minute)
	if _, _, err := other.Choose(t.Context(), need); !errors.Is(err, placement.ErrNoCapacity) {
		t.Errorf("a silent node was chosen: %v", err)
	}
}

func TestHeartbeatsAreMostlyNotWritten(t *testing.T) {
	f := start(t, nil)
	st := placement.Status{MemoryMBTotal: 1000, MemoryMBFree: 1000, Cores: 2}
	f.addNode(t, "node-1", st)
	before := f.Nodes()[0].Node.Version
	for i := range 50 {
		st.MemoryMBFree = 1000 - i%10
		if err := f.Report(t.Context(), "node-1", &st); err != nil {
			t.Fatal(err)
		}
	}
	if after := f.Nodes()[0].Node.Version; after != before {
		t.Errorf("%d writes for heartbeats that told nothing", after-before)
	}
}

func TestConfigValidate(t *testing.T) {
	_, err := placement.New(t.Context(), placement.Config{DownAfter: -1, VCPUsPerCore: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"Store", "CA", "DownAfter", "VCPUsPerCore"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %s: %v", word, err)
		}
	}
}
