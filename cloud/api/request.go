package api

import (
	"bytes"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

const formType = "application/x-www-form-urlencoded"

// readForm returns the request's parameters, of query string and body, each of which may come once, and the body as
// it was signed. The parameters of a presigned signature are left out.
func readForm(w http.ResponseWriter, r *http.Request, limit int64) (url.Values, []byte, error) {
	body, err := readBody(w, r, limit)
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, nil, authn.Errorf(authn.CodeBodyTooLarge, "The request is larger than %d bytes", limit)
		}
		return nil, nil, model.Errorf("IncompleteBody", http.StatusBadRequest, "The request's body ended early: %w",
			err)
	}
	form := url.Values{}
	if r.URL.RawQuery != "" {
		if form, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			return nil, body, malformed("The query string is malformed: %w", err)
		}
	}
	if len(body) > 0 {
		if kind := r.Header.Get("Content-Type"); !isForm(kind) {
			return form, body, model.Errorf("UnsupportedMediaType", http.StatusUnsupportedMediaType,
				"The content type must be %s, got '%.80s'", formType, kind)
		}
		posted, err := url.ParseQuery(string(body))
		if err != nil {
			return form, body, malformed("The body is malformed: %w", err)
		}
		for name, values := range form {
			posted[name] = append(values, posted[name]...)
		}
		form = posted
	}
	for name, values := range form {
		if strings.HasPrefix(name, "X-Amz-") {
			delete(form, name)
			continue
		}
		if len(values) > 1 {
			return form, body, malformed("The parameter %.80s is given %d times", name, len(values))
		}
	}
	return form, body, nil
}

// readBody reads a body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	const room = 64 << 10 // more is made as it comes: what a client announces costs it nothing
	body := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), room)+bytes.MinRead))
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return body.Bytes(), err
}

func malformed(format string, args ...any) error {
	return model.Errorf("MalformedQueryString", http.StatusBadRequest, format, args...)
}

// isForm tells whether a body of that type holds parameters. Some old clients send none.
func isForm(contentType string) bool {
	if contentType == "" || contentType == formType || contentType == formType+"; charset=utf-8" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == formType
}

// servesPath tells whether the front door answers at path: the root, and the paths of the original's services.
func servesPath(p string) bool {
	if p == "/" {
		return true
	}
	p = path.Clean("/" + p)
	name, ok := strings.CutPrefix(p, "/services/")
	return p == "/" || ok && !strings.Contains(name, "/")
}

// sourceIP is the address that the connection came from. No header can change it.
func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
