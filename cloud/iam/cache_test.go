package iam

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestCacheKeepsAndDrops(t *testing.T) {
	loads := 0
	c := newCache(2, func(_ context.Context, key string) (int, error) {
		loads++
		if key == "bad" {
			return 0, errors.New("no")
		}
		return loads, nil
	})
	get := func(key string) int { v, _ := c.get(t.Context(), key); return v }
	if a, again := get("a"), get("a"); a == again {
		t.Error("a cache that is not live kept a value")
	}
	c.setLive(true)
	first := get("a")
	if get("a") != first {
		t.Error("a kept value was loaded again")
	}
	c.drop("a")
	if get("a") == first {
		t.Error("a dropped value came back")
	}
	if _, err := c.get(t.Context(), "bad"); err == nil {
		t.Error("an error was lost")
	}
	before := loads
	if get("bad"); loads == before {
		t.Error("an error was kept")
	}
	a := get("a")
	get("b")
	get("c")
	if n := c.kept.order.Len(); n != 2 {
		t.Errorf("%d values kept, want 2", n)
	}
	if get("a") == a {
		t.Error("the oldest value did not leave")
	}
	c.setLive(false)
	if n := c.kept.order.Len(); n != 0 {
		t.Errorf("%d values kept without a watch", n)
	}
}

// TestCacheForgetsLoadsUnderWay: a load that began before a write must not be kept after it.
func TestCacheForgetsLoadsUnderWay(t *testing.T) {
	for name, invalidate := range map[string]func(*cache[string]){
		"drop":    func(c *cache[string]) { c.drop("k") },
		"setLive": func(c *cache[string]) { c.setLive(true) },
	} {
		t.Run(name, func(t *testing.T) {
			started, release := make(chan struct{}), make(chan struct{})
			value := "old"
			first := true
			c := newCache(8, func(context.Context, string) (string, error) {
				v := value
				if first {
					first = false
					close(started)
					<-release
				}
				return v, nil
			})
			c.setLive(true)
			var wg sync.WaitGroup
			wg.Go(func() {
				if v, _ := c.get(context.Background(), "k"); v != "old" {
					t.Errorf("the load under way gave %q", v)
				}
			})
			<-started
			value = "new"
			invalidate(c)
			close(release)
			wg.Wait()
			if v, _ := c.get(t.Context(), "k"); v != "new" {
				t.Errorf("after the write the cache gives %q", v)
			}
			if len(c.loads) != 0 {
				t.Errorf("%d loads are still noted", len(c.loads))
			}
		})
	}
}

func TestCacheUnderContention(t *testing.T) {
	var mu sync.Mutex
	truth := 0
	c := newCache(4, func(context.Context, string) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return truth, nil
	})
	c.setLive(true)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 500 {
				_, _ = c.get(context.Background(), "k")
				_, _ = c.get(context.Background(), strconv.Itoa(i))
			}
		})
	}
	for i := range 500 {
		mu.Lock()
		truth = i
		mu.Unlock()
		c.drop("k")
		if v, _ := c.get(context.Background(), "k"); v != i {
			t.Errorf("after write %d the cache gives %d", i, v)
		}
	}
	wg.Wait()
}

func TestSplitARN(t *testing.T) {
	tests := []struct {
		name, arn                 string
		account, kind, path, leaf string
		ok                        bool
	}{
		{"plain", "arn:aws:iam::123456789012:user/a", "123456789012", "user", "/", "a", true},
		{"path", "arn:aws:iam::123456789012:role/x/y/a", "123456789012", "role", "/x/y/", "a", true},
		{"root", "arn:aws:iam::123456789012:root", "", "", "", "", false},
		{"no name", "arn:aws:iam::123456789012:user/", "", "", "", "", false},
		{"no kind", "arn:aws:iam::123456789012:/a", "", "", "", "", false},
		{"other service", "arn:aws:sts::123456789012:assumed-role/r/s", "", "", "", "", false},
		{"short account", "arn:aws:iam::12:user/a", "", "", "", "", false},
		{"empty", "", "", "", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, k, p, n, ok := splitARN(tt.arn)
			if a != tt.account || k != tt.kind || p != tt.path || n != tt.leaf || ok != tt.ok {
				t.Errorf("splitARN = %q %q %q %q %t", a, k, p, n, ok)
			}
		})
	}
}

func FuzzReadPEM(f *testing.F) {
	f.Add(
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----",
	)
	f.Add("", "")
	f.Add("-----BEGIN ", "-----BEGIN EC PARAMETERS-----\nBgA=\n-----END EC PARAMETERS-----\n")
	f.Fuzz(func(t *testing.T, certs, key string) {
		bounded.Memory(t, len(certs)+len(key), func() {
			if got, err := readCertificates(certs); err == nil && len(got) == 0 {
				t.Error("no certificate and no error")
			}
			if signer, err := readPrivateKey([]byte(key)); err == nil && signer == nil {
				t.Error("no key and no error")
			}
		})
	})
}
