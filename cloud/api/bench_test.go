package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// TestManyAtOnce meets every type's plan for the first time from many sides.
func TestManyAtOnce(t *testing.T) {
	tw := newTwin(t)
	forms := []url.Values{
		form("Action", "ListUsers"), form("Action", "CreateUser", "UserName", "u"), form("Action", "GetCallerIdentity"),
		form("Action", "DescribeInstances", "InstanceId.1", "i-1"), form("Action", "DescribeLoadBalancers"),
	}
	var wg sync.WaitGroup
	for i := range 50 {
		f := forms[i%len(forms)]
		r := signed(t, tw.url, f, "iam", nil)
		wg.Go(func() {
			if status, body := send(t, r); status != http.StatusOK {
				t.Errorf("%s: %d %s", f.Get("Action"), status, body)
			}
		})
	}
	wg.Wait()
	if n := len(tw.events(t)); n != 50 {
		t.Errorf("%d events, want 50", n)
	}
}

// TestPresigned sends a URL that the SDK presigned, as tools do that prove their identity to a third party.
func TestPresigned(t *testing.T) {
	tw := newTwin(t)
	client := sts.NewPresignClient(sts.NewFromConfig(tw.config(testSecret)))
	p, err := client.PresignGetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, url string
		status    int
	}{
		{"as signed", p.URL, http.StatusOK},
		{"another action", strings.Replace(p.URL, "GetCallerIdentity", "GetSessionToken", 1), http.StatusBadRequest},
		{"parameter added", p.URL + "&Extra=1", http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), p.Method, tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if status, body := send(t, r); status != tt.status {
				t.Errorf("status is %d, want %d: %s", status, tt.status, body)
			}
		})
	}
}

func BenchmarkGetCallerIdentity(b *testing.B) { benchmark(b, form("Action", "GetCallerIdentity")) }

func BenchmarkDescribe1000Instances(b *testing.B) {
	f := form("Action", "DescribeInstances")
	for i := range 1000 {
		f.Set("InstanceId."+strconv.Itoa(i+1), "i-"+strconv.Itoa(i))
	}
	benchmark(b, f)
}

func benchmark(b *testing.B, f url.Values) {
	tw := newTwin(b)
	r := signed(b, "http://h/", f, "sts", nil)
	body := f.Encode()
	b.ReportAllocs()
	for b.Loop() {
		q := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "http://h/", strings.NewReader(body))
		q.Header = r.Header
		w := httptest.NewRecorder()
		tw.handler.ServeHTTP(w, q)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}
