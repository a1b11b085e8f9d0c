package authn

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dayFormat  = "20060102"

	// maxAuthorization bounds the header, which holds a scope, a list of header names and 64 hex digits.
	maxAuthorization = 8 << 10
	maxSignedHeaders = 100
	maxToken         = 16 << 10
	maxExpires       = 7 * 24 * time.Hour
)

// signature is what a request says about how it was signed.
type signature struct {
	accessKeyID   string
	day           string // of the credential scope, YYYYMMDD
	region        string // as sent; any text
	service       string // as sent; any text
	signedHeaders []string
	value         string // 64 lower-case hex digits
	presigned     bool

	date    time.Time
	expires time.Duration // presigned only; 0 when not given
	token   string
}

// parseAuthorization reads an Authorization header of SigV4.
func parseAuthorization(header string) (*signature, error) {
	if len(header) > maxAuthorization {
		return nil, Errorf(CodeIncomplete, "Authorization header is longer than %d bytes.", maxAuthorization)
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if scheme != algorithm {
		return nil, Errorf(CodeIncomplete, "Unsupported AWS 'algorithm': '%.40s' (only %s is supported).", scheme,
			algorithm)
	}
	names := [...]string{"Credential", "Signature", "SignedHeaders"}
	var values [len(names)]string
	var seen [len(names)]bool
	others := map[string]bool{} // names that nothing is known of
	for part := range strings.SplitSeq(rest, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(part), "=")
		if !found {
			return nil, Errorf(CodeIncomplete, "'%.40s' not a valid key=value pair (missing equal-sign) in "+
				"Authorization header.", part)
		}
		at := slices.Index(names[:], name)
		if at >= 0 && seen[at] || others[name] {
			return nil, Errorf(CodeIncomplete, "Authorization header gives '%.40s' twice.", name)
		}
		if at < 0 {
			others[name] = true
			continue
		}
		values[at], seen[at] = value, true
	}
	var missing []string
	for i, name := range names {
		if values[i] == "" {
			missing = append(missing, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if len(missing) > 0 {
		return nil, Errorf(CodeIncomplete, "%s", strings.Join(missing, " "))
	}
	s := &signature{}
	return s, s.fill(values[0], values[2], values[1])
}

// fill checks the three parts that header and query form have in common.
func (s *signature) fill(credential, signedHeaders, value string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return Errorf(CodeIncomplete, "Credential must have exactly 5 slash-delimited elements, "+
			"e.g. keyid/date/region/service/term, got '%.200s'.", credential)
	}
	s.accessKeyID, s.day, s.region, s.service = parts[0], parts[1], parts[2], parts[3]
	if s.accessKeyID == "" {
		return Errorf(CodeIncomplete, "Credential has no access key id.")
	}
	if parts[4] != terminator {
		return Errorf(CodeSignatureMismatch, "Credential should be scoped with a valid terminator: '%s', not '%.40s'.",
			terminator, parts[4])
	}
	s.signedHeaders = strings.Split(signedHeaders, ";")
	if len(s.signedHeaders) > maxSignedHeaders {
		return Errorf(CodeIncomplete, "SignedHeaders names more than %d headers.", maxSignedHeaders)
	}
	for i, name := range s.signedHeaders {
		if name == "" || strings.ToLower(name) != name || i > 0 && s.signedHeaders[i-1] >= name {
			return Errorf(CodeIncomplete, "SignedHeaders must be lower case, sorted, each name once, got '%.200s'.",
				signedHeaders)
		}
	}
	if !slices.Contains(s.signedHeaders, "host") {
		return Errorf(CodeSignatureMismatch, "'Host' or ':authority' must be a 'SignedHeader' in the AWS "+
			"Authorization.")
	}
	if len(value) != 64 || strings.Trim(value, "0123456789abcdef") != "" {
		return Errorf(CodeIncomplete, "Signature must be 64 lower-case hexadecimal digits.")
	}
	s.value = value
	return nil
}

// parse finds the signature of r. query is r's query string, parsed.
func parse(r *http.Request, query url.Values) (*signature, error) {
	headers := r.Header.Values("Authorization")
	presigned := query.Has("X-Amz-Algorithm") || query.Has("X-Amz-Signature") || query.Has("X-Amz-Credential")
	switch {
	case len(headers) == 0 && !presigned:
		return nil, Errorf(CodeMissingToken, "Request is missing Authentication Token")
	case len(headers) > 1 || len(headers) == 1 && presigned:
		return nil, Errorf(CodeIncomplete, "Only one signature is allowed: one Authorization header, or a "+
			"presigned query.")
	case presigned:
		return parsePresigned(query)
	}
	s, err := parseAuthorization(headers[0])
	if err != nil {
		return nil, err
	}
	date, err := single(r.Header, "X-Amz-Date")
	if err != nil {
		return nil, err
	}
	if s.token, err = single(r.Header, "X-Amz-Security-Token"); err != nil {
		return nil, err
	}
	if date == "" {
		return nil, Errorf(CodeIncomplete, "Authorization header requires existence of a 'X-Amz-Date' header.")
	}
	return s, s.at(date)
}

func parsePresigned(query url.Values) (*signature, error) {
	for _, name := range []string{
		"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Security-Token",
		"X-Amz-Signature", "X-Amz-SignedHeaders",
	} {
		if n := len(query[name]); n > 1 {
			return nil, Errorf(CodeIncomplete, "Query string gives '%s' %d times.", name, n)
		}
	}
	if a := query.Get("X-Amz-Algorithm"); a != algorithm {
		return nil, Errorf(CodeIncomplete, "Unsupported AWS 'algorithm': '%.40s' (only %s is supported).", a, algorithm)
	}
	var missing []string
	for _, name := range []string{"X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if query.Get(name) == "" {
			missing = append(missing, "AWS query-string parameters must include '"+name+"'.")
		}
	}
	if len(missing) > 0 {
		return nil, Errorf(CodeIncomplete, "%s", strings.Join(missing, " "))
	}
	s := &signature{presigned: true, token: query.Get("X-Amz-Security-Token")}
	if e := query.Get("X-Amz-Expires"); e != "" {
		seconds, err := strconv.ParseInt(e, 10, 32)
		if err != nil || seconds < 1 || time.Duration(seconds)*time.Second > maxExpires {
			return nil, Errorf(CodeIncomplete, "X-Amz-Expires must be 1 to %d seconds, got '%.20s'.",
				int(maxExpires.Seconds()), e)
		}
		s.expires = time.Duration(seconds) * time.Second
	}
	err := s.fill(query.Get("X-Amz-Credential"), query.Get("X-Amz-SignedHeaders"), query.Get("X-Amz-Signature"))
	if err != nil {
		return nil, err
	}
	return s, s.at(query.Get("X-Amz-Date"))
}

// at sets the time of signing and holds it against the credential scope.
func (s *signature) at(date string) error {
	t, err := time.Parse(timeFormat, date)
	if err != nil {
		return Errorf(CodeIncomplete, "Date must be in ISO-8601 'basic format'. Got '%.40s'. "+
			"See http://en.wikipedia.org/wiki/ISO_8601", date)
	}
	if day := date[:len(dayFormat)]; day != s.day { // the layout begins with it, digit by digit
		return Errorf(CodeSignatureMismatch, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version "+
			"of date from HTTP: '%.40s' != '%s', from '%s'.", s.day, day, date)
	}
	if len(s.token) > maxToken {
		return Errorf(CodeUnknownKey, "The security token included in the request is longer than %d bytes.", maxToken)
	}
	s.date = t
	return nil
}

// single returns a header that must not come twice: two values would leave open which one counts.
func single(h http.Header, name string) (string, error) {
	values := h.Values(name)
	if len(values) > 1 {
		return "", Errorf(CodeIncomplete, "The header '%s' is given %d times.", name, len(values))
	}
	return h.Get(name), nil
}

// ScopeService returns the service in the credential scope of r, or "" when there is none. Nothing of it is verified;
// it may only break a tie.
func ScopeService(r *http.Request) string {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if header := r.Header.Get("Authorization"); header != "" && len(header) <= maxAuthorization {
		_, rest, _ := strings.Cut(header, "Credential=")
		credential, _, _ = strings.Cut(rest, ",")
	}
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return ""
	}
	return parts[3]
}
