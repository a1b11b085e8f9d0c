package elb

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestConfigValidateReportsAll(t *testing.T) {
	err := Config{Replicas: 11, RetryMin: 2, RetryMax: 1}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Store", "IAM", "EC2", "SystemAccountID", "Replicas", "RetryMin"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"tcp", "TCP:80", "TCP:80"},
		{"lower case", "ssl:443", "SSL:443"},
		{"path with colon and slash", "HTTP:8080/a:b/c?d=e", "HTTP:8080/a:b/c?d=e"},
		{"root path", "https:443/", "HTTPS:443/"},
		{"empty", "", ""},
		{"sign before the port", "TCP:+80", ""},
		{"space in the path", "HTTP:80/a b", ""},
		{"path too long", "HTTP:80/" + strings.Repeat("a", 1025), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseTarget(tt.in)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("parseTarget(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
			}
		})
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"TCP:80", "http:80/x", "SSL:", ":", "HTTPS:65536/", "TCP:-1", "HTTP:80/\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := parseTarget(text)
		if err != nil {
			return
		}
		if again, err := parseTarget(target); err != nil || again != target {
			t.Errorf("parseTarget(%q) = %q, and of that %q, %v", text, target, again, err)
		}
	})
}

func FuzzParseMarker(f *testing.F) {
	for _, seed := range []string{"", makeMarker("web"), "%", "====", "LQ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, marker string) {
		name, err := parseMarker(marker)
		if err == nil && name != "" && !namePattern.MatchString(name) {
			t.Errorf("parseMarker(%q) = %q, which is no name", marker, name)
		}
	})
}

func FuzzCertificateARN(f *testing.F) {
	for _, seed := range []string{certA, certB, "arn:aws:iam::1:server-certificate/x", certA + "/", certA + "\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arn string) {
		if checkCertificateARN(arn, alice) != nil {
			return
		}
		if name := certificateName(arn); name == "" || strings.ContainsAny(name, "/ \n\"") {
			t.Errorf("certificateName(%q) = %q", arn, name)
		}
	})
}

func TestQueueWorksOnOneKeyAtATime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var q queue
	q.init(ctx)
	q.add("a")
	q.add("b")
	q.add("a")
	first, _ := q.next()
	q.add(first) // while it is worked on
	second, _ := q.next()
	if got := []string{first, second}; !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("took %v, want a, b", got)
	}
	if _, ok := q.take(); ok {
		t.Error("a key was handed out twice at the same time")
	}
	q.done("a")
	if third, ok := q.take(); !ok || third != "a" {
		t.Errorf("took %q, %v; want a once more", third, ok)
	}
	q.done("a")
	q.done("b")
	q.addAfter("c", time.Millisecond)
	if key, ok := q.next(); !ok || key != "c" {
		t.Errorf("took %q, %v; want c", key, ok)
	}
	cancel()
	if _, ok := q.next(); ok {
		t.Error("a key after the end")
	}
}

func TestKeyedLocks(t *testing.T) {
	var k keyedLocks
	k.init()
	var wg sync.WaitGroup
	count := 0
	for range 50 {
		wg.Go(func() {
			defer k.lock("a")()
			count++
		})
	}
	unlockOther := k.lock("b") // does not wait for a
	wg.Wait()
	unlockOther()
	if count != 50 || len(k.locks) != 0 {
		t.Errorf("count %d, %d locks left", count, len(k.locks))
	}
}

func TestBackoff(t *testing.T) {
	c := Config{RetryMin: 100 * time.Millisecond, RetryMax: time.Second}
	for n, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 3: 400 * time.Millisecond, 5: time.Second, 5000: time.Second,
	} {
		if got := c.backoff(n); got != want {
			t.Errorf("pause after %d failures: %s, want %s", n, got, want)
		}
	}
}
