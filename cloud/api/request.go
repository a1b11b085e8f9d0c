package api

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

const formType = "application/x-www-form-urlencoded"

// readForm returns the request's parameters, of query string and body, each of which may come once, and the body as
// it was signed. The parameters of a presigned signature are left out.
func readForm(w http.ResponseWriter, r *http.Request, limit int64) (url.Values, []byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, nil, authn.Errorf(authn.CodeBodyTooLarge, "The request is larger than %d bytes", limit)
		}
		return nil, nil, model.Errorf("IncompleteBody", http.StatusBadRequest, "The request's body ended early: %w",
			err)
	}
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, body, malformed("The query string is malformed: %w", err)
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
		for name, values := range posted {
			form[name] = append(form[name], values...)
		}
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

func malformed(format string, args ...any) error {
	return model.Errorf("MalformedQueryString", http.StatusBadRequest, format, args...)
}

// isForm tells whether a body of that type holds parameters. Some old clients send none.
func isForm(contentType string) bool {
	if contentType == "" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == formType
}

// servesPath tells whether the front door answers at path: the root, and the paths of the original's services.
func servesPath(p string) bool {
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

// conditions are the global condition keys that a request itself answers.
func conditions(r *http.Request, caller authn.Caller, now time.Time, region string) map[string][]string {
	c := map[string][]string{
		"aws:CurrentTime":      {now.UTC().Format(time.RFC3339)},
		"aws:EpochTime":        {strconv.FormatInt(now.Unix(), 10)},
		"aws:SecureTransport":  {strconv.FormatBool(r.TLS != nil)},
		"aws:SourceIp":         {caller.SourceIP},
		"aws:UserAgent":        {r.UserAgent()},
		"aws:RequestedRegion":  {region},
		"aws:PrincipalArn":     {principalARN(caller)},
		"aws:PrincipalAccount": {caller.AccountID},
		"aws:PrincipalType":    {string(caller.Kind)},
		"aws:userid":           {caller.UserID},
	}
	if caller.Kind == authn.KindRoot {
		c["aws:PrincipalType"] = []string{"Account"}
	}
	if caller.UserName != "" {
		c["aws:username"] = []string{caller.UserName}
	}
	return c
}

// principalARN is what aws:PrincipalArn holds: of a role session, the role.
func principalARN(c authn.Caller) string {
	if c.Kind == authn.KindRole {
		return c.RoleARN
	}
	return c.ARN
}
