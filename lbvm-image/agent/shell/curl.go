package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// curl's own exit statuses.
const (
	curlUsage      = 2
	curlMalformed  = 3
	curlResolve    = 6
	curlConnect    = 7
	curlHTTPStatus = 22
	curlTimeout    = 28
)

// curlLimit is how long a request takes at most; testers rarely say.
const curlLimit = 30 * time.Second

// request is what curl's arguments ask for.
type request struct {
	method, url, body string
	headers           http.Header
	fail, show, head  bool
	limit             time.Duration
}

// curl asks a URL over HTTP: the options -s -S -f -i -I -X -H -d and -m, and no others.
func curl(ctx context.Context, c *call) int {
	r, err := parseCurl(c.args)
	if err != nil {
		return c.refuse(curlUsage, "curl: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	target, err := url.Parse(r.url)
	if err != nil || target.Scheme != "http" || target.Host == "" {
		return c.refuse(curlMalformed, "curl: (3) %q: want http://ADDRESS[:PORT]/PATH", r.url)
	}
	if net.ParseIP(target.Hostname()) == nil {
		return c.refuse(curlResolve, "curl: (6) Could not resolve host: %s (there is no name service; give an address)",
			target.Hostname())
	}
	ask, err := http.NewRequestWithContext(ctx, r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		return c.refuse(curlUsage, "curl: %v", err)
	}
	ask.Header = r.headers
	ask.Host = r.headers.Get("Host") // a header of this name is not sent
	transport := &http.Transport{DialContext: c.Dial, DisableKeepAlives: true}
	answer, err := transport.RoundTrip(ask)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return c.refuse(curlTimeout, "curl: (28) Operation timed out after %s", r.limit)
		}
		return c.refuse(curlConnect, "curl: (7) Failed to connect to %s: %v", target.Host, err)
	}
	defer answer.Body.Close()
	if r.fail && answer.StatusCode >= http.StatusBadRequest {
		return c.refuse(curlHTTPStatus, "curl: (22) The requested URL returned error: %d", answer.StatusCode)
	}
	if r.show {
		c.print("HTTP/1.1 %s\r\n", answer.Status)
		_ = answer.Header.Write(c.stdout)
		c.print("\r\n")
	}
	if _, err := io.Copy(c.stdout, answer.Body); err != nil {
		return c.refuse(curlConnect, "curl: %v", err)
	}
	return 0
}

func parseCurl(args []string) (request, error) {
	r := request{headers: http.Header{"User-Agent": {"curl/cloudtwin"}, "Accept": {"*/*"}}, limit: curlLimit}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") {
			if r.url != "" {
				return r, errors.New("takes one URL here")
			}
			r.url = arg
			continue
		}
		name, takes := curlOption(arg)
		value := ""
		if takes {
			if i++; i == len(args) {
				return r, fmt.Errorf("option %s: requires parameter", arg)
			}
			value = args[i]
		}
		if err := r.option(name, value); err != nil {
			return r, err
		}
	}
	if r.url == "" {
		return r, errors.New("no URL specified")
	}
	if r.method == "" {
		r.method = http.MethodGet
		if r.body != "" {
			r.method = http.MethodPost
		}
		if r.head {
			r.method = http.MethodHead
		}
	}
	return r, nil
}

// curlOption gives an option's short letters and whether a value follows.
func curlOption(arg string) (letters string, takes bool) {
	long := map[string]string{
		"--silent": "s", "--show-error": "S", "--fail": "f", "--include": "i", "--head": "I", "--request": "X",
		"--header": "H", "--data": "d", "--max-time": "m",
	}
	letters = strings.TrimPrefix(arg, "-")
	if short, ok := long[arg]; ok {
		letters = short
	}
	return letters, letters != "" && strings.ContainsRune("XHdm", rune(letters[len(letters)-1]))
}

// option takes letters, of which the last one may have the value.
func (r *request) option(letters, value string) error {
	for _, letter := range letters {
		switch letter {
		case 's', 'S': // there is no meter, and errors are always told
		case 'f':
			r.fail = true
		case 'i':
			r.show = true
		case 'I':
			r.show, r.head = true, true
		case 'X':
			r.method = value
		case 'd':
			r.body = value
			if r.headers.Get("Content-Type") == "" {
				r.headers.Set("Content-Type", "application/x-www-form-urlencoded")
			}
		case 'H':
			name, text, ok := strings.Cut(value, ":")
			if !ok {
				return fmt.Errorf("header %q: want NAME: VALUE", value)
			}
			r.headers.Set(strings.TrimSpace(name), strings.TrimSpace(text))
		case 'm':
			limit, err := time.ParseDuration(value + "s")
			if err != nil || limit <= 0 {
				return fmt.Errorf("option -m: %q is no number of seconds", value)
			}
			r.limit = limit
		default:
			return fmt.Errorf("option -%s is not here; there are -s -S -f -i -I -X -H -d -m", letters)
		}
	}
	return nil
}
