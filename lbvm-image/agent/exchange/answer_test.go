package exchange

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestReadAnswer(t *testing.T) {
	const limit = 100
	tests := []struct {
		name, text string
		status     int
		body       string
		stays      bool
		bad        bool
	}{
		{name: "length", text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", status: 200, body: "abc", stays: true},
		{name: "to the end", text: "HTTP/1.1 200 OK\r\n\r\nabc", status: 200, body: "abc"},
		{
			name: "chunks with extension and trailer", status: 200, body: "abcde", stays: true,
			text: "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
		},
		{
			name: "interim answer first", status: 200, stays: true,
			text: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		},
		{
			name: "last of its connection", status: 404, body: "x",
			text: "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
		},
		{name: "old version", text: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", status: 200, body: "x"},
		{name: "no reason", text: "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", status: 200, body: "x", stays: true},
		{name: "cut off in the head", text: "HTTP/1.1 200 OK\r\nConte", bad: true},
		{name: "cut off in the body", text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na", bad: true},
		{name: "cut off in a chunk", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", bad: true},
		{name: "two lengths", text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", bad: true},
		{
			name: "length and chunks", bad: true,
			text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		},
		{name: "negative length", text: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", bad: true},
		{name: "other coding", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", bad: true},
		{name: "huge chunk", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", bad: true},
		{name: "no end of a chunk", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", bad: true},
		{name: "header without colon", text: "HTTP/1.1 200 OK\r\nx\r\n\r\n", bad: true},
		{name: "long header", text: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", readBuffer) + "\r\n\r\n", bad: true},
		{name: "many headers", text: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxFields) + "\r\n", bad: true},
		{name: "only interim answers", text: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxInterim+1), bad: true},
		{name: "another protocol", text: "SSH-2.0-OpenSSH\r\n", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, stays, err := readAnswer(bufio.NewReaderSize(strings.NewReader(tt.text), readBuffer), limit)
			if tt.bad {
				if err == nil {
					t.Errorf("taken: %+v", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != tt.status || string(got.Body) != tt.body || stays != tt.stays {
				t.Errorf("got %d, %q, stays %t", got.Status, got.Body, stays)
			}
		})
	}
}

// FuzzReadAnswer compares with net/http's reader: what is taken here says the same there.
func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		bounded.Memory(t, len(text), func() {
			const limit = 1 << 16
			got, stays, err := readAnswer(bufio.NewReaderSize(bytes.NewReader(text), readBuffer), limit)
			if err != nil || !stays || got.Status < statusFinal {
				return
			}
			in := bufio.NewReader(bytes.NewReader(text))
			for {
				want, err := http.ReadResponse(in, nil)
				if err != nil {
					return // net/http is stricter about the form of headers that do not count here
				}
				body, err := io.ReadAll(want.Body)
				if want.StatusCode < statusFinal {
					continue
				}
				if err == nil && (want.StatusCode != got.Status || !bytes.Equal(body, got.Body)) {
					t.Errorf("got %d with %d bytes, net/http %d with %d", got.Status, len(got.Body), want.StatusCode, len(body))
				}
				if errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("took an answer that is cut off")
				}
				return
			}
		})
	})
}
