// Command summary reads the JUnit reports of a test run and prints, last of all, how many tests passed and failed.
// It exits non-zero when a test failed, when a report is missing or empty, and when a test was skipped that nobody
// had deselected: a skip is a test that did not run, and must be seen.
//
//	summary artifacts/unit.xml artifacts/e2e.xml
package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

type report struct {
	Suites []suite `xml:"testsuite"`
}

type suite struct {
	Name  string     `xml:"name,attr"`
	Cases []testCase `xml:"testcase"`
}

type testCase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Failure *verdict `xml:"failure"`
	Error   *verdict `xml:"error"`
	Skipped *verdict `xml:"skipped"`
}

type verdict struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// deselected is the message Ginkgo writes for a spec that a label filter left out. A spec that called Skip carries
// its reason behind it.
const deselected = "skipped"

type totals struct {
	passed, failed, skipped, deselected int
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: summary REPORT.xml...")
		os.Exit(2)
	}
	var all totals
	var errs []error
	for _, path := range os.Args[1:] {
		one, err := read(os.Stdout, path)
		if err != nil {
			errs = append(errs, err)
			all.failed++
			continue
		}
		fmt.Printf("%-12s %5d passed %4d failed %4d skipped %4d deselected\n",
			filepath.Base(path), one.passed, one.failed, one.skipped, one.deselected)
		all.passed += one.passed
		all.failed += one.failed
		all.skipped += one.skipped
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if all.skipped > 0 {
		fmt.Printf("%d passed, %d failed, %d skipped\n", all.passed, all.failed, all.skipped)
	} else {
		fmt.Printf("%d passed, %d failed\n", all.passed, all.failed)
	}
	if all.failed > 0 || all.skipped > 0 || all.passed == 0 {
		os.Exit(1)
	}
}

func read(w io.Writer, path string) (totals, error) {
	var sum totals
	raw, err := os.ReadFile(path)
	if err != nil {
		return sum, fmt.Errorf("read the report of a test run: %w", err)
	}
	var all report
	if err := xml.Unmarshal(raw, &all); err != nil {
		return sum, fmt.Errorf("read report %s: %w", path, err)
	}
	for _, s := range all.Suites {
		for _, c := range s.Cases {
			sum.count(w, s, c)
		}
	}
	if sum.passed+sum.failed == 0 {
		return sum, fmt.Errorf("report %s holds no test that ran", path)
	}
	return sum, nil
}

func (t *totals) count(w io.Writer, s suite, c testCase) {
	switch {
	case c.Failure != nil || c.Error != nil:
		t.failed++
		fmt.Fprintf(w, "FAILED   %s: %s %s\n", s.Name, c.Class, c.Name)
		for _, line := range cause(c.Failure, c.Error) {
			fmt.Fprintf(w, "         %s\n", line)
		}
	case c.Skipped != nil && c.Skipped.Message == deselected:
		t.deselected++
	case c.Skipped != nil:
		t.skipped++
		fmt.Fprintf(w, "SKIPPED  %s: %s: %s%s\n", s.Name, c.Name, c.Skipped.Message, c.Skipped.Text)
	default:
		t.passed++
	}
}

// causeLines and causeColumns bound what is printed of a failure: enough to see what differed, in a log of which only
// the end may be left.
const causeLines, causeColumns = 30, 200

// failedSpec begins what Ginkgo says of a spec that failed.
const failedSpec = "[FAILED]"

// cause is the beginning of what a failed test said, without the blank lines. Some reports put it in the
// message, others in the text. A go test that is a suite of specs says a lot before the first that failed: that is
// left out.
func cause(verdicts ...*verdict) (lines []string) {
	for _, v := range verdicts {
		if v == nil {
			continue
		}
		said := v.Message + "\n" + v.Text
		if at := strings.Index(said, failedSpec); at >= 0 {
			said = said[strings.LastIndex(said[:at], "\n")+1:]
		}
		for line := range strings.Lines(said) {
			if line = strings.TrimRight(line, " \n"); line == "" {
				continue
			}
			if len(lines) == causeLines {
				return append(lines, "...")
			}
			if len(line) > causeColumns {
				line = strings.ToValidUTF8(line[:causeColumns], "") + "..."
			}
			lines = append(lines, line)
		}
	}
	return lines
}
