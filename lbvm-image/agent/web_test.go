package agent_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/memnet"
)

// bootWeb starts a web guest with user data and returns its console and a client of its port.
func bootWeb(t *testing.T, userData string, port string) (*guest, *http.Client) {
	t.Helper()
	network := &memnet.Network{}
	cloud := &fakeCloud{t: t, net: network}
	cloud.serve(imdsIP, ":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			_, _ = io.WriteString(w, "imds-token")
		case r.Header.Get("X-aws-ec2-metadata-token") == "":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/latest/meta-data/instance-id":
			_, _ = io.WriteString(w, guestID)
		case r.URL.Path == "/latest/user-data" && userData != "":
			_, _ = io.WriteString(w, userData)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}), nil)
	host := network.Host(guestIP)
	ctx, stop := context.WithCancel(context.Background())
	g := &guest{t: t, cloud: cloud, console: newConsole(), done: make(chan error, 1), off: make(chan struct{}), stop: stop}
	go func() {
		g.done <- agent.RunWeb(ctx, agent.World{
			Dial: host.Dial, Listen: host.Listen, Now: time.Now, PowerOff: func() { close(g.off) },
			Console: agent.NewConsole(g.console, func() time.Duration { return 0 }),
		})
	}()
	t.Cleanup(func() {
		stop()
		<-g.off
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, n, _ string) (net.Conn, error) {
		return network.Host(gatewayIP).Dial(ctx, n, net.JoinHostPort(guestIP, port))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return g, &http.Client{Transport: transport}
}

func TestWebEcho(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, c := bootWeb(t, "hello from user data\nport: 8080\n", "8080")
		g.expect(time.Second, 1, agent.StageServing, "port=8080")
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://www.example.test/a//b?q=1;2", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Forwarded-For", "192.0.2.1")
		answer, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		var got agent.Echo
		if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Headers.Get("X-Forwarded-For") != "192.0.2.1" || !strings.HasPrefix(got.RemoteAddr, gatewayIP) {
			t.Errorf("headers %v from %s", got.Headers, got.RemoteAddr)
		}
		got.Headers, got.RemoteAddr = nil, ""
		want := agent.Echo{
			Instance: guestID, Method: "POST", Path: "/a//b?q=1;2", Host: "www.example.test",
			Text: "hello from user data\nport: 8080\n",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("echo (-want +got):\n%s", diff)
		}
	})
}

func TestWebControl(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, c := bootWeb(t, "", "80")
		g.expect(time.Second, 1, agent.StageServing, "port=80")
		ask := func(method, path string) int {
			t.Helper()
			request, err := http.NewRequestWithContext(t.Context(), method, "http://web"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept", "text/plain")
			answer, err := c.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || !strings.Contains(string(body), guestID) {
				t.Errorf("%s %s answers %q, %v", method, path, body, err)
			}
			return answer.StatusCode
		}
		steps := []struct {
			name, method, path string
			want               int
		}{
			{"healthy at first", "GET", "/health", 200},
			{"answers", "GET", "/", 200},
			{"told to fail", "POST", "/control/fail", 200},
			{"fails", "GET", "/health", 503},
			{"fails for others", "GET", "/x", 503},
			{"GET does not control", "GET", "/control/recover", 503},
			{"told to recover", "POST", "/control/recover", 200},
			{"healthy again", "GET", "/health", 200},
		}
		for _, s := range steps {
			if got := ask(s.method, s.path); got != s.want {
				t.Errorf("%s: %s %s answers %d, want %d", s.name, s.method, s.path, got, s.want)
			}
		}
		g.stop()
		if err := <-g.done; err != nil {
			t.Errorf("RunWeb returned %v", err)
		}
		g.expect(0, 1, agent.StagePowerOff)
	})
}
