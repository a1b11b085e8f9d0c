package exchange

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// maxFields bounds the headers of an answer, and its trailers.
	maxFields = 64
	// maxInterim bounds the answers that only say that another follows.
	maxInterim  = 4
	statusFinal = 200 // and above
	noContent   = 204
	notModified = 304
)

// traceField names the header by which a step of a trace is told (W3C Trace Context).
const traceField = "traceparent"

// Answer is a whole answer.
type Answer struct {
	Status int
	Body   []byte
	// Date is the Date header, empty when there is none.
	Date string
	// Traceparent is the header of that name, for Trace; empty when there is none.
	Traceparent string
}

// head is what is used of an answer's head.
type head struct {
	status  int
	date    string
	trace   string
	length  int64 // -1: not told
	chunked bool
	last    bool // the connection ends with this answer
}

// readAnswer reads one answer; stays tells whether the connection can be used for another.
func readAnswer(in *bufio.Reader, limit int64) (answer *Answer, stays bool, err error) {
	var h head
	for range maxInterim {
		if h, err = readHead(in); err != nil {
			return nil, false, err
		}
		if h.status >= statusFinal {
			break
		}
	}
	if h.status < statusFinal {
		return nil, false, ErrMalformed
	}
	answer = &Answer{Status: h.status, Date: h.date, Traceparent: h.trace}
	stays = !h.last
	switch {
	case h.status == noContent, h.status == notModified:
	case h.chunked:
		answer.Body, err = readChunks(in, limit)
	case h.length >= 0:
		answer.Body, err = readExactly(in, h.length, limit)
	default:
		stays = false
		answer.Body, err = readToEnd(in, limit)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read answer: %w", err)
	}
	return answer, stays, nil
}

// readHead reads the status line and the headers.
func readHead(in *bufio.Reader) (head, error) {
	line, err := readLine(in)
	if err != nil {
		return head{}, err
	}
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || status < 100 || (version != "HTTP/1.1" && version != "HTTP/1.0") {
		return head{}, fmt.Errorf("%w: status line", ErrMalformed)
	}
	h := head{status: status, length: -1, last: version == "HTTP/1.0"}
	for range maxFields {
		if line, err = readLine(in); err != nil {
			return head{}, err
		}
		if line == "" {
			return h, h.check()
		}
		if err := h.field(line); err != nil {
			return head{}, err
		}
	}
	return head{}, fmt.Errorf("%w: too many headers", ErrMalformed)
}

// field takes up one header.
func (h *head) field(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("%w: header", ErrMalformed)
	}
	value = strings.Trim(value, " \t")
	switch {
	case strings.EqualFold(name, "Content-Length"):
		n, err := strconv.ParseUint(value, 10, 62)
		if err != nil || (h.length >= 0 && h.length != int64(n)) {
			return fmt.Errorf("%w: Content-Length", ErrMalformed)
		}
		h.length = int64(n)
	case strings.EqualFold(name, "Transfer-Encoding"):
		if h.chunked || !strings.EqualFold(value, "chunked") {
			return fmt.Errorf("%w: Transfer-Encoding", ErrMalformed)
		}
		h.chunked = true
	case strings.EqualFold(name, "Connection"):
		h.last = h.last || strings.EqualFold(value, "close")
	case strings.EqualFold(name, "Date"):
		h.date = value
	case strings.EqualFold(name, traceField):
		h.trace = value
	}
	return nil
}

// check refuses a head with two lengths: who reads which is how answers are smuggled (RFC 9112, 6.3).
func (h *head) check() error {
	if h.chunked && h.length >= 0 {
		return fmt.Errorf("%w: two lengths", ErrMalformed)
	}
	return nil
}

// readLine reads a line of at most readBuffer bytes, without its end.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("%w: line is too long", ErrMalformed)
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("read answer: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return "", fmt.Errorf("read answer: %w", err)
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return string(line), nil
}

func readExactly(in *bufio.Reader, length, limit int64) ([]byte, error) {
	if length > limit {
		return nil, ErrTooLong
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, unexpected(err)
	}
	return body, nil
}

func readToEnd(in *bufio.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = ErrTooLong
	}
	return body, err
}

// readChunks reads a body in chunks (RFC 9112, 7.1), and passes over trailers.
func readChunks(in *bufio.Reader, limit int64) ([]byte, error) {
	var body []byte
	for {
		line, err := readLine(in)
		if err != nil {
			return nil, err
		}
		text, _, _ := strings.Cut(line, ";")
		size, err := strconv.ParseUint(strings.TrimRight(text, " \t"), 16, 62)
		if err != nil {
			return nil, fmt.Errorf("%w: size of a chunk", ErrMalformed)
		}
		if size == 0 {
			return body, skipTrailers(in)
		}
		if int64(size) > limit-int64(len(body)) {
			return nil, ErrTooLong
		}
		from := len(body)
		body = append(body, make([]byte, size)...)
		if _, err := io.ReadFull(in, body[from:]); err != nil {
			return nil, unexpected(err)
		}
		if line, err = readLine(in); err != nil || line != "" {
			return nil, errors.Join(err, fmt.Errorf("%w: end of a chunk", ErrMalformed))
		}
	}
}

func skipTrailers(in *bufio.Reader) error {
	for range maxFields {
		if line, err := readLine(in); err != nil || line == "" {
			return err
		}
	}
	return fmt.Errorf("%w: too many trailers", ErrMalformed)
}

// unexpected is for an end in the midst of a body.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
