package twin

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/e2e/twin/console"
	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
)

// Allow has lines on a console and events that match the pattern, a regular expression, be no findings until the spec
// ends, or the suite when it is called in BeforeSuite: for specs that make guests misbehave on purpose.
//
//	cloud.Allow(`"stage":"failed".*agent crashed`)
func (t *Twin) Allow(pattern string) {
	ginkgo.GinkgoHelper()
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		ginkgo.Fail(fmt.Sprintf("Allow: %v", err))
	}
	t.mu.Lock()
	t.allowed = append(t.allowed, compiled)
	t.mu.Unlock()
	ginkgo.DeferCleanup(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.allowed = slices.DeleteFunc(t.allowed, func(p *regexp.Regexp) bool { return p == compiled })
	})
}

// permitted are the patterns that are allowed now.
func (t *Twin) permitted() []*regexp.Regexp {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.allowed)
}

// consoles are the files of all guests of this twin, by their instances, those that have ended as well.
func (t *Twin) consoles() map[string]string {
	files := map[string]string{}
	for _, pattern := range []string{"*/node/machines/i-*/console.log", "*/node/ended/i-*.console.log"} {
		found, err := filepath.Glob(filepath.Join(t.dir, pattern))
		if err != nil {
			continue
		}
		for _, path := range found {
			id, ended := strings.CutSuffix(filepath.Base(path), ".console.log")
			if !ended {
				id = filepath.Base(filepath.Dir(path))
			}
			files[id] = path
		}
	}
	return files
}

// findings reads all consoles on.
func (t *Twin) findings(allowed []*regexp.Regexp) []console.Finding {
	var all []console.Finding
	for id, path := range t.consoles() {
		found, err := t.read.Scan(id, path, allowed...)
		if err != nil {
			ginkgo.GinkgoWriter.Printf("%v\n", err)
		}
		all = append(all, found...)
	}
	return all
}

// examine looks at the spec that ends: at what its guests wrote, and, when something is wrong, for what went wrong
// first. It returns what fails the spec.
func (t *Twin) examine(report ginkgo.SpecReport) error {
	permitted := t.permitted()
	found := t.findings(permitted)
	if len(found) == 0 && !report.Failed() {
		return nil
	}
	for _, f := range found {
		ginkgo.AddReportEntry(verdict.Entry, verdict.Cause{Blame: verdict.Product, Subject: f.Guest, Path: f.Path,
			What: fmt.Sprintf("%s, line %d of its console: %s", f.Kind, f.Line, f.Text)}.JSON(),
			ginkgo.ReportEntryVisibilityNever)
	}
	if events, err := t.Events(); err == nil && len(found) == 0 {
		if cause, ok := firstBad(events, report.StartTime, permitted); ok {
			ginkgo.AddReportEntry(verdict.Entry, cause.JSON(), ginkgo.ReportEntryVisibilityNever)
		}
	}
	for _, p := range []*process{t.cloud, t.node} {
		if p != nil {
			p.blameExit()
		}
	}
	if len(found) == 0 {
		return nil
	}
	lines := make([]string, len(found))
	for i, f := range found {
		lines[i] = f.String()
	}
	return fmt.Errorf("guests wrote what no healthy one does; Twin.Allow says what a spec means to happen:\n%s",
		strings.Join(lines, "\n"))
}
