package testrun

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// maxRemembered is how many runs of a spec are counted: old sins are forgiven.
	maxRemembered = 200
	// maxDurations is how many durations of passes make the typical one.
	maxDurations = 9
	// forgetAfter is when a spec that runs no more leaves the history.
	forgetAfter = 180 * 24 * time.Hour
	// historyWait is how long another run may keep the file to itself.
	historyWait = 10 * time.Second
)

var specsBucket = []byte("specs")

// History is a small database of how specs fared.
type History struct {
	db *bolt.DB
}

// stored is one spec's part of the file.
type stored struct {
	Spec           Spec            `json:"spec"`
	Guests         string          `json:"guests"`
	Outcomes       string          `json:"outcomes"` // p and f, the newest last
	Durations      []time.Duration `json:"durations"`
	Infrastructure int             `json:"infrastructure"`
	LastFailure    time.Time       `json:"lastFailure,omitzero"`
	Cause          string          `json:"cause,omitempty"`
	Seen           time.Time       `json:"seen"`
}

// DefaultHistory is the file that is used unless another is named.
func DefaultHistory() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "cloudtwin", "tests.db")
}

// OpenHistory opens the file, and makes it when there is none. Other runs wait for Close.
func OpenHistory(path string) (*History, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make a folder for the history of tests: %w", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: historyWait})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: another run has kept the history %s for %v; name another one with --history",
			ErrTools, path, historyWait)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s is no history of tests: %w; remove it, or name another one with --history",
			ErrTools, path, err)
	case err != nil:
		return nil, fmt.Errorf("open the history of tests %s: %w", path, err)
	}
	return &History{db: db}, nil
}

// Close lets others open the file.
func (h *History) Close() error { return h.db.Close() }

// Add remembers what came of one run. Specs that did not run are passed over.
func (h *History) Add(guests string, results []Result, now time.Time) error {
	return h.db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(specsBucket)
		if err != nil {
			return fmt.Errorf("write the history of tests: %w", err)
		}
		for _, r := range results {
			if r.Suite || r.Outcome == Skipped || r.Outcome == NotRun {
				continue
			}
			if err := addOne(bucket, guests, r, now); err != nil {
				return fmt.Errorf("write the history of %s: %w", r.Spec, err)
			}
		}
		return forget(bucket, now)
	})
}

func addOne(bucket *bolt.Bucket, guests string, r Result, now time.Time) error {
	key := historyKey(guests, r.Spec)
	s := stored{Spec: r.Spec, Guests: guests}
	if text := bucket.Get(key); text != nil {
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
	}
	s.Seen = now.UTC()
	switch r.Outcome {
	case Passed:
		s.Outcomes += "p"
		s.Durations = append(s.Durations, r.Duration)
	case Failed:
		s.Outcomes += "f"
		s.LastFailure, s.Cause = now.UTC(), r.Cause.String()
	default:
		s.Infrastructure++
	}
	s.Outcomes = s.Outcomes[max(0, len(s.Outcomes)-maxRemembered):]
	s.Durations = s.Durations[max(0, len(s.Durations)-maxDurations):]
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return bucket.Put(key, text)
}

func historyKey(guests string, s Spec) []byte {
	return []byte(guests + "\x00" + s.Package + "\x00" + s.Text)
}

// forget drops what has not run for long.
func forget(bucket *bolt.Bucket, now time.Time) error {
	var old [][]byte
	err := bucket.ForEach(func(key, text []byte) error {
		var s stored
		if json.Unmarshal(text, &s) != nil || now.Sub(s.Seen) > forgetAfter {
			old = append(old, slices.Clone(key))
		}
		return nil
	})
	for _, key := range old {
		err = errors.Join(err, bucket.Delete(key))
	}
	return err
}

// Records returns all that is known, the flakiest first. guests picks a kind of guests; empty means all.
func (h *History) Records(guests string) ([]Record, error) {
	var list []Record
	err := h.db.View(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(specsBucket)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(key, text []byte) error {
			var s stored
			if err := json.Unmarshal(text, &s); err != nil {
				return fmt.Errorf("read the history of %q: %w", key, err)
			}
			if guests == "" || guests == s.Guests {
				list = append(list, s.record())
			}
			return nil
		})
	})
	slices.SortFunc(list, func(a, b Record) int {
		return cmp.Or(cmp.Compare(b.Rate(), a.Rate()), strings.Compare(a.Spec.String(), b.Spec.String()),
			strings.Compare(a.Guests, b.Guests))
	})
	return list, err
}

func (s stored) record() Record {
	r := Record{Spec: s.Spec, Guests: s.Guests, Runs: len(s.Outcomes), Failures: strings.Count(s.Outcomes, "f"),
		Streak: len(s.Outcomes) - 1 - strings.LastIndexByte(s.Outcomes, 'f'), Infrastructure: s.Infrastructure,
		LastFailure: s.LastFailure, Cause: s.Cause}
	if n := len(s.Durations); n > 0 {
		d := slices.Clone(s.Durations)
		slices.Sort(d)
		r.Typical = d[n/2]
	}
	return r
}
