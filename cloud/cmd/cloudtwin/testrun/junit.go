package testrun

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxOutput is how much of a failed spec's output a report holds, in bytes from its end.
const maxOutput = 64 << 10

type junitSuites struct {
	XMLName  xml.Name      `xml:"testsuites"`
	Tests    int           `xml:"tests,attr"`
	Failures int           `xml:"failures,attr"`
	Errors   int           `xml:"errors,attr"`
	Suites   []*junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string           `xml:"name,attr"`
	Tests      int              `xml:"tests,attr"`
	Failures   int              `xml:"failures,attr"`
	Errors     int              `xml:"errors,attr"`
	Skipped    int              `xml:"skipped,attr"`
	Time       float64          `xml:"time,attr"`
	Properties *junitProperties `xml:"properties,omitempty"`
	Cases      []junitCase      `xml:"testcase"`
}

type junitProperties struct {
	List []junitProperty `xml:"property"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    float64       `xml:"time,attr"`
	Failure *junitVerdict `xml:"failure,omitempty"`
	Error   *junitVerdict `xml:"error,omitempty"`
	Skipped *junitVerdict `xml:"skipped,omitempty"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitVerdict struct {
	Type    string `xml:"type,attr,omitempty"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes results as JUnit's XML, a testsuite for each package. A failure's message is its first cause
// and its type the one to blame: <failure type="product">, <error type="infrastructure">. A quarantined failure
// is skipped, with its tracker.
func WriteJUnit(path string, results []Result, properties map[string]string) error {
	var all junitSuites
	byPackage := map[string]*junitSuite{}
	for _, r := range results {
		s := byPackage[r.Package]
		if s == nil {
			s = &junitSuite{Name: r.Package, Properties: junitPropertiesOf(properties)}
			byPackage[r.Package] = s
			all.Suites = append(all.Suites, s)
		}
		c := junitCaseOf(r)
		s.Cases = append(s.Cases, c)
		s.Tests++
		all.Tests++
		s.Time += c.Time
		switch {
		case c.Failure != nil:
			s.Failures++
			all.Failures++
		case c.Error != nil:
			s.Errors++
			all.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
	text, err := xml.MarshalIndent(all, "", " ")
	if err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	if err := os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o600); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	return nil
}

func junitPropertiesOf(properties map[string]string) *junitProperties {
	p := &junitProperties{}
	for _, name := range []string{"guests", "labels", "shard", "plan"} {
		if properties[name] != "" {
			p.List = append(p.List, junitProperty{Name: name, Value: properties[name]})
		}
	}
	if len(p.List) == 0 {
		return nil
	}
	return p
}

func junitCaseOf(r Result) junitCase {
	c := junitCase{Class: r.Package, Name: r.Text, Time: r.Duration.Seconds()}
	if r.Round > 1 {
		c.Name += fmt.Sprintf(" (round %d)", r.Round)
	}
	if r.Retried {
		c.Output = "second try, after an infrastructure failure\n"
	}
	v := &junitVerdict{Type: string(blameOf(r)), Message: printable(r.Cause.String()), Text: printable(details(r))}
	switch {
	case r.Excused != nil:
		c.Skipped = &junitVerdict{Message: fmt.Sprintf("quarantined: %s; failed: %s", r.Excused, v.Message)}
	case r.Outcome == Failed:
		c.Failure = v
	case r.Outcome == Broken:
		c.Error = v
	case r.Outcome == NotRun:
		v.Message = printable("not run: " + firstLine(r.Message))
		c.Error = v
	case r.Outcome == Skipped:
		c.Skipped = &junitVerdict{Message: printable(firstLine(r.Message))}
	}
	if r.failed() {
		c.Output += printable(r.Output[max(0, len(r.Output)-maxOutput):])
	}
	return c
}

// details are what a person reads below the first cause.
func details(r Result) string {
	var b strings.Builder
	if !r.Cause.Time.IsZero() {
		fmt.Fprintf(&b, "first at %s: %s\n", r.Cause.Time.UTC().Format(time.RFC3339Nano), r.Cause)
	}
	fmt.Fprintf(&b, "noticed at %s:\n%s\n", r.Location, r.Message)
	if r.Replay != "" {
		fmt.Fprintf(&b, "play it again with: %s\n", r.Replay)
	}
	return b.String()
}

// printable leaves out what XML cannot hold, such as a console's control characters.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0xFFFE || c == 0xFFFF {
			return -1
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
}
