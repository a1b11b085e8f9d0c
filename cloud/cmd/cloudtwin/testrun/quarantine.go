package testrun

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// The limits of a quarantine: it is a list of debts, and must stay short enough to be paid.
const (
	maxQuarantineBytes = 1 << 20
	// DefaultQuarantineCap is how many entries there may be, unless the file asks for fewer.
	DefaultQuarantineCap = 10
	// maxQuarantine is how long an entry may last from today.
	maxQuarantine = 90 * 24 * time.Hour
)

// Entry excuses the failures of some specs for some time.
type Entry struct {
	// Pattern is a regular expression over "package: texts" of a spec.
	Pattern string `json:"pattern"`
	// Tracker is the address of the issue in which somebody works on it.
	Tracker string `json:"tracker"`
	// Owner is who does.
	Owner string `json:"owner"`
	// Expires is the last day on which it holds, as 2026-12-31, in UTC; at most 90 days from now.
	Expires string `json:"expires"`

	match *regexp.Regexp
}

// String names the entry in messages.
func (e Entry) String() string {
	return fmt.Sprintf("%q (owner %s, %s, expires %s)", e.Pattern, e.Owner, e.Tracker, e.Expires)
}

// Quarantine is a file of entries.
type Quarantine struct {
	// Cap is how many entries there may be: from 1 to 10, 10 when it is left out.
	Cap     int     `json:"cap,omitempty"`
	Entries []Entry `json:"entries"`
}

// ReadQuarantine reads and checks a file. ErrUsage when it is malformed, with all that is wrong, and ErrExpired when an
// entry's time is over: either names the entry.
func ReadQuarantine(path string, now time.Time) (Quarantine, error) {
	if path == "" {
		return Quarantine{}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return Quarantine{}, usagef("--quarantine: %v", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxQuarantineBytes+1))
	if err != nil {
		return Quarantine{}, fmt.Errorf("read the quarantine %s: %w", path, err)
	}
	q, err := parseQuarantine(text, now)
	if err != nil {
		return q, fmt.Errorf("%s: %w", path, err)
	}
	return q, nil
}

func parseQuarantine(text []byte, now time.Time) (Quarantine, error) {
	var q Quarantine
	if len(text) > maxQuarantineBytes {
		return q, usagef("longer than %d bytes", maxQuarantineBytes)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&q); err != nil {
		return q, usagef("expected {\"entries\": [{\"pattern\", \"tracker\", \"owner\", \"expires\"}]}: %v", err)
	}
	if decoder.More() {
		return q, usagef("something follows the list of entries")
	}
	if q.Cap < 0 || q.Cap > DefaultQuarantineCap {
		return q, usagef("cap %d: expected 1 to %d", q.Cap, DefaultQuarantineCap)
	}
	if q.Cap == 0 {
		q.Cap = DefaultQuarantineCap
	}
	if len(q.Entries) > q.Cap {
		return q, usagef("%d entries, more than the %d that are allowed; mend a spec before another is added",
			len(q.Entries), q.Cap)
	}
	var malformed, expired []error
	for i := range q.Entries {
		late, err := q.Entries[i].check(now)
		switch {
		case err != nil:
			malformed = append(malformed, usagef("entry %d, %s: %v", i+1, q.Entries[i], err))
		case late:
			expired = append(expired, fmt.Errorf("%w: entry %d, %s; mend the spec, or agree on a new date with its owner",
				ErrExpired, i+1, q.Entries[i]))
		}
	}
	return q, errors.Join(append(malformed, expired...)...)
}

// check compiles the entry and tells whether its time is over.
func (e *Entry) check(now time.Time) (expired bool, err error) {
	var wrong []error
	if e.match, err = regexp.Compile(e.Pattern); err != nil || e.Pattern == "" {
		wrong = append(wrong, fmt.Errorf("pattern: expected a regular expression: %w", orEmpty(err)))
	} else if e.match.MatchString("") {
		wrong = append(wrong, errors.New("pattern: it matches every spec"))
	}
	if u, err := url.Parse(e.Tracker); err != nil || u.Scheme == "" || u.Host == "" {
		wrong = append(wrong, errors.New("tracker: expected the address of an issue, such as https://example.test/issues/7"))
	}
	if strings.TrimSpace(e.Owner) == "" {
		wrong = append(wrong, errors.New("owner: expected a person or a team"))
	}
	day, err := time.Parse(time.DateOnly, e.Expires)
	if err != nil {
		wrong = append(wrong, errors.New("expires: expected a day such as 2026-12-31"))
	} else if day.Sub(now) > maxQuarantine {
		wrong = append(wrong, fmt.Errorf("expires: more than %d days from now", maxQuarantine/(24*time.Hour)))
	}
	if len(wrong) > 0 {
		return false, errors.Join(wrong...)
	}
	return !now.Before(day.AddDate(0, 0, 1)), nil
}

func orEmpty(err error) error {
	if err == nil {
		return errors.New("it is empty")
	}
	return err
}

// Of returns the first entry that excuses a spec, nil when there is none.
func (q Quarantine) Of(s Spec) *Entry {
	for i := range q.Entries {
		if q.Entries[i].match.MatchString(s.String()) {
			return &q.Entries[i]
		}
	}
	return nil
}
