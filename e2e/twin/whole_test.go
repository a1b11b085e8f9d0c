package twin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswersAreWholeWhenHandedOver(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 64<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, text)
	}))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("Action=List"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := wholeAnswers().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	server.CloseClientConnections()
	server.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil || string(got) != text {
		t.Errorf("%d of %d bytes are left of an answer whose connection is gone: %v", len(got), len(text), err)
	}
}

func TestLostAnswersAreErrors(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := wholeAnswers().Do(request); err == nil {
		_ = answer.Body.Close()
		t.Error("half an answer passed for a whole one")
	}
}
