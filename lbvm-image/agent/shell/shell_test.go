package shell

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/sshd"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       []string
		err        string
	}{
		{"nothing", " \t", nil, ""},
		{"words", "a  b\tc", []string{"a", "b", "c"}, ""},
		{"quotes", `a 'b c' "d|e" f''g ''`, []string{"a", "b c", "d|e", "fg", ""}, ""},
		{"quote in a quote", `"it's"`, []string{"it's"}, ""},
		{"open quote", `a 'b`, nil, "not closed"},
		{"pipe", "a | b", nil, "one command at a time"},
		{"variable", "echo $HOME", nil, "one command at a time"},
		{"two lines", "a\nb", nil, "one command at a time"},
		{"escape", `a\ b`, nil, "one command at a time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := split(tt.line)
			if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") ||
				err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func machine() *Machine {
	now := time.Date(2026, time.March, 4, 5, 6, 7, 0, time.UTC)
	return &Machine{
		Hostname: "ip-10-64-0-5", Address: "10.64.0.5", Began: now.Add(-90 * time.Second),
		Now:  func() time.Time { return now },
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") },
	}
}

func TestCommands(t *testing.T) {
	m := machine()
	for _, tt := range []struct {
		command, stdin, stdout, stderr string
		code                           int
	}{
		{command: "cat /proc/uptime", stdout: "90.00 0.00\n"},
		{command: "cat - /etc/hostname", stdin: "x", stdout: "xip-10-64-0-5\n"},
		{command: "date -u +%s", stdout: "1772600767\n"},
		{command: "date +%Y", stderr: "takes -u and +%s", code: 1},
		{command: "echo -n a", stdout: "a"},
		{command: "env", stdout: "HOME=/root\nPATH=/bin\nSHELL=/bin/sh\nUSER=root\n"},
		{command: "id -un", stdout: "root\n"},
		{command: "id", stdout: "uid=0(root) gid=0(root)\n"},
		{command: "ip addr", stdout: "1: lo    inet 127.0.0.1/8\n2: eth0    inet 10.64.0.5/32\n"},
		{command: "ip route", stderr: "addresses alone", code: 1},
		{command: "ls /", stdout: "etc\nproc\n"},
		{command: "ls /proc", stdout: "uptime\n"},
		{command: "ls /nowhere", stderr: "No such file", code: 1},
		{command: "uname -m", stdout: "x86_64\n"},
		{command: "uptime", stdout: " 05:06:07 up 1 min,  load average: 0.00, 0.00, 0.00\n"},
		{command: "wc", stdin: "a b\nc\n", stdout: "      2       3       6\n"},
		{command: "wc -l", stdin: "a\nb", stdout: "1\n"},
		{command: "sleep 0"},
		{command: "sleep x", stderr: "invalid number", code: 1},
		{command: "poweroff", stderr: "cannot be switched off", code: 1},
		{command: "exit 300", code: 2},
		{command: "curl", stderr: "no URL", code: 2},
		{command: "curl -z http://10.0.0.1", stderr: "is not here", code: 2},
		{command: "curl -H", stderr: "requires parameter", code: 2},
		{command: "curl https://10.0.0.1/", stderr: "want http://", code: 3},
		{command: "curl http://example.test/", stderr: "no name service", code: 6},
		{command: "curl http://10.0.0.1/", stderr: "no route", code: 7},
	} {
		t.Run(tt.command, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := m.Run(t.Context(), sshd.Session{
				Command: tt.command, Stdin: strings.NewReader(tt.stdin), Stdout: &stdout, Stderr: &stderr})
			if code != tt.code || stdout.String() != tt.stdout || !strings.Contains(stderr.String(), tt.stderr) ||
				tt.stderr == "" && stderr.Len() > 0 {
				t.Errorf("%d, %q, %q; want %d, %q, %q", code, &stdout, &stderr, tt.code, tt.stdout, tt.stderr)
			}
		})
	}
}

func TestCurl(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
		_, _ = io.WriteString(w, strings.Join([]string{r.Method, r.Host, r.Header.Get("X-One"), string(body)}, "|"))
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	m := machine()
	m.Dial = (&net.Dialer{}).DialContext
	for _, tt := range []struct {
		name  string
		args  []string
		want  string
		code  int
		holds string // where want is empty: what is among the output
	}{
		{"get", []string{"-sS", server.URL + "/"}, "GET|" + host + "||", 0, ""},
		{"method and header", []string{"-X", "PUT", "-H", "X-One: 1", server.URL}, "PUT|" + host + "|1|", 0, ""},
		{"host", []string{"--header", "Host: www.example.test", server.URL}, "GET|www.example.test||", 0, ""},
		{"data", []string{"-d", "a=b", server.URL}, "POST|" + host + "||a=b", 0, ""},
		{"a status that is no error", []string{server.URL + "/gone"}, "GET|" + host + "||", 0, ""},
		{"a status that is", []string{"-sf", server.URL + "/gone"}, "", 22, ""},
		{"head", []string{"-I", server.URL + "/gone"}, "", 0, "HTTP/1.1 410 Gone\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := m.Curl(t.Context(), tt.args, strings.NewReader(""), &stdout, &stderr)
			if code != tt.code || tt.holds == "" && stdout.String() != tt.want || !strings.Contains(stdout.String(), tt.holds) {
				t.Errorf("%d, %q, %q; want %d, %q", code, &stdout, &stderr, tt.code, tt.want+tt.holds)
			}
		})
	}
}
