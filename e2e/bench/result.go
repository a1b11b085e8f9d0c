package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The units of results.
const (
	seconds   = "s"
	perSecond = "1/s"
	megabytes = "MB"
	percent   = "%"
	bytesEach = "B"
)

// result is one figure beside its peer. Times are in s, memory in MB, rates in 1/s, shares in percent.
type result struct {
	Name           string   `json:"name"`
	Value          float64  `json:"value"`
	Unit           string   `json:"unit"`
	Reference      string   `json:"reference"`       // what the peer is; empty when there is none
	ReferenceValue *float64 `json:"reference_value"` // in Unit; null when there is none
	Ratio          *float64 `json:"ratio"`           // Value by ReferenceValue
	aim            aim
}

// aim is what Ratio should be, and Value at most.
type aim struct {
	sign  string // "<=", ">=", or empty for none
	bound float64
	limit float64 // of Value, in its unit; 0 means none
}

func atMost(ratio float64) aim { return aim{sign: "<=", bound: ratio} }

func atLeast(ratio float64) aim { return aim{sign: ">=", bound: ratio} }

// within adds a limit of the value itself.
func (a aim) within(limit float64) aim {
	a.limit = limit
	return a
}

// against puts the peer beside r. A peer of zero gives no ratio.
func (r result) against(reference string, value float64, a aim) result {
	r.Reference, r.ReferenceValue, r.aim = reference, &value, a
	if value != 0 {
		ratio := r.Value / value
		r.Ratio = &ratio
	}
	return r
}

// verdict shows the aim, and marks it when it was missed.
func (r result) verdict() string {
	var aims []string
	missed := false
	if r.aim.sign != "" && r.Ratio != nil {
		aims = append(aims, r.aim.sign+" "+strconv.FormatFloat(r.aim.bound, 'g', -1, 64))
		missed = r.aim.sign == "<=" && *r.Ratio > r.aim.bound || r.aim.sign == ">=" && *r.Ratio < r.aim.bound
	}
	if r.aim.limit != 0 {
		aims = append(aims, "<= "+strconv.FormatFloat(r.aim.limit, 'g', -1, 64)+" "+r.Unit)
		missed = missed || r.Value > r.aim.limit
	}
	text := strings.Join(aims, ", ")
	if missed {
		text += " MISSED"
	}
	return text
}

// table prints results as they come.
type table struct {
	w     io.Writer
	begun bool
}

func newTable(w io.Writer) *table { return &table{w: w} }

const row = "%-36s %10s %-4s %-45s %10s %6s  %s\n"

func (t *table) add(r result) {
	if !t.begun {
		_, _ = fmt.Fprintf(t.w, row, "name", "value", "unit", "reference", "ref. value", "ratio", "aim")
		t.begun = true
	}
	_, _ = fmt.Fprintf(t.w, row, r.Name, figure(&r.Value), r.Unit, r.Reference, figure(r.ReferenceValue), short(r.Ratio),
		r.verdict())
}

// figure shows four digits.
func figure(v *float64) string {
	switch {
	case v == nil:
		return ""
	case *v >= 1000:
		return strconv.FormatFloat(*v, 'f', 0, 64)
	case *v < 0.0001 && *v > -0.0001:
		return strconv.FormatFloat(*v, 'f', 6, 64)
	default:
		return strconv.FormatFloat(*v, 'g', 4, 64)
	}
}

func short(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', 2, 64)
}

// writeJSON writes the results as one array.
func writeJSON(path string, results []result) error {
	if results == nil {
		results = []result{}
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// beside returns the results of the file at path with those in place that were measured now. No file is no results.
func beside(path string, now []result) ([]result, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return now, nil
	}
	var earlier []result
	if err == nil {
		err = json.Unmarshal(text, &earlier)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the other results of %s: %w; remove the file or name another with --output", path, err)
	}
	for _, r := range now {
		same := func(other result) bool { return other.Name == r.Name }
		if i := slices.IndexFunc(earlier, same); i >= 0 {
			earlier[i] = r
		} else {
			earlier = append(earlier, r)
		}
	}
	return earlier, nil
}
