package twin

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"
)

// wholeAnswers makes an HTTP client for the SDK's: it hands an answer over when all of it is there.
//
// The SDK closes a request's body as soon as it has the first of the answer. When the transport has not yet seen that
// body's end, which takes nothing but a busy machine, it gives the connection up, and an answer of more than its first
// buffer is lost ("use of closed network connection", aws/aws-sdk-go-v2#2737).
func wholeAnswers() *http.Client {
	return &http.Client{Transport: whole{&http.Transport{IdleConnTimeout: time.Minute}}}
}

type whole struct{ http.RoundTripper }

// maxAnswer bounds what is kept of an answer, in bytes; the longest of the suites' are some MB.
const maxAnswer = 64 << 20

func (w whole) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := w.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}
