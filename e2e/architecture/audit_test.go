package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// decision finds the kinds of events that by their names tell of a decision about access.
var decision = regexp.MustCompile(`"((?:account|delivery|ec2|elb|iam|instance|node|policy)\.[a-z_]*(?:denied|refused|` +
	`granted|withdrawn|revoked|expired|renewed|rotated|retired|enrolled|unsigned|credential|removed|assumed_role))"`)

// TestDecisionsAreAudited finds every kind of decision that the cloud records in the list of those that are never
// dropped.
func TestDecisionsAreAudited(t *testing.T) {
	kinds := map[string]string{}
	err := filepath.WalkDir(filepath.Join("..", "..", "cloud"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "cmd" || entry.Name() == "model") {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range decision.FindAllStringSubmatch(string(text), -1) {
			kinds[found[1]] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const least = 15
	if len(kinds) < least {
		t.Errorf("%d kinds of decisions in the sources, want %d at least: the pattern finds them no more", len(kinds), least)
	}
	for kind, path := range kinds {
		if !journal.Audited(kind) {
			t.Errorf("%s records %s, which the journal drops in time: add it to decisions in cloud/journal/audit.go", path, kind)
		}
	}
}
