package twin

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	ginkgo "github.com/onsi/ginkgo/v2"
)

const (
	// artifactsVariable names the folder under which each failed spec gets one of its own; 'cloudtwin test' sets it.
	artifactsVariable = "CLOUDTWIN_ARTIFACTS"
	// maxArtifact and maxArtifacts bound a text and a spec's folder, in bytes. A text that is longer loses its
	// beginning: the end is where it failed. maxBundle bounds the bundle, so that there is room for texts beside it.
	maxArtifact  = 4 << 20
	maxArtifacts = 32 << 20
	maxBundle    = 24 << 20
)

// Artifacts is the folder for what the spec that runs leaves, made when it is not there; empty when the
// environment asks for none. Specs may put files of their own there.
func Artifacts() string {
	root := os.Getenv(artifactsVariable)
	if root == "" {
		return ""
	}
	dir := filepath.Join(root, folderName(ginkgo.CurrentSpecReport().FullText()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		ginkgo.GinkgoWriter.Printf("make a folder for artifacts: %v\n", err)
		return ""
	}
	return dir
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9]+`)

// folderName makes a spec's texts a name that every file system takes and no other spec has.
func folderName(text string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(text))
	name := strings.Trim(unfit.ReplaceAllString(text, "-"), "-")
	return fmt.Sprintf("%s-%08x", name[:min(len(name), 80)], sum.Sum32())
}

// locker keeps a spec's artifacts, up to a size.
type locker struct {
	dir  string
	left int
}

// put writes a text, its end when it does not fit.
func (l *locker) put(name, text string) {
	room := min(maxArtifact, l.left)
	if l.dir == "" || room <= 0 {
		return
	}
	if len(text) > room {
		notice := fmt.Sprintf("[the first %d bytes are left out]\n", len(text)-room)
		notice = notice[:min(len(notice), room)]
		text = notice + text[len(text)-room+len(notice):]
	}
	l.left -= len(text)
	if err := os.WriteFile(filepath.Join(l.dir, unfitName.ReplaceAllString(name, "-")), []byte(text), 0o600); err != nil {
		ginkgo.GinkgoWriter.Printf("keep %s: %v\n", name, err)
	}
}

// take counts a file that somebody wrote into the folder already, and removes it when it is longer than most or than
// the room that is left.
func (l *locker) take(path string, most int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if room := min(most, int64(l.left)); info.Size() > room {
		if err := os.Remove(path); err != nil {
			return err
		}
		return fmt.Errorf("it has %d bytes, and %d are left for it", info.Size(), room)
	}
	l.left -= int(info.Size())
	return nil
}

var unfitName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// keepArtifacts writes what a failed spec left: its part of the journal, all consoles, the logs of the processes.
func (t *Twin) keepArtifacts(l *locker, report ginkgo.SpecReport) {
	l.put("failure.txt", report.FullText()+"\n"+report.FailureLocation().String()+"\n"+report.FailureMessage()+"\n")
	l.put("events.txt", t.eventsSince(report.StartTime))
	for _, path := range t.processLogs() {
		if text, err := os.ReadFile(path); err == nil {
			l.put(filepath.Base(path), string(text))
		}
	}
	for id, path := range t.consoles() {
		if text, err := os.ReadFile(path); err == nil {
			l.put("console-"+id+".log", string(text))
		}
	}
	ginkgo.GinkgoWriter.Printf("what it left is in %s\n", l.dir)
}
