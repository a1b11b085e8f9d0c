package twin

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/twin/verdict"
	"github.com/cloudtwin/cloudtwin/node"
)

// bundleTimeout bounds the making of a bundle.
const bundleTimeout = 3 * time.Minute

// Bundle makes a bundle of the twin's whole life in a file, with what its nodes and processes left, and returns the
// command that plays it again. args are further ones of 'cloudtwin bundle', such as --lb NAME.
func (t *Twin) Bundle(ctx context.Context, file string, args ...string) (replay string, err error) {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(ctx, bundleTimeout)
	defer cancel()
	command := []string{"bundle", "-o", file}
	for _, dir := range t.nodeStates() {
		command = append(command, "--node-state", dir)
	}
	for _, path := range t.processLogs() {
		command = append(command, "--log-file", path)
	}
	if t.images != "" {
		command = append(command, "--images", t.images)
	}
	if code, _, stderr := t.Command(ctx, append(command, args...)...); code != 0 {
		return "", fmt.Errorf("make a bundle: exit code %d: %s", code, stderr)
	}
	return t.replayCommand(file), nil
}

// replayCommand plays a bundle on guests of the twin's kind, for a shell.
func (t *Twin) replayCommand(file string) string {
	// A program that the suite built is gone when it ends.
	words := []string{cmp.Or(os.Getenv("CLOUDTWIN_BIN"), "cloudtwin"), "replay", file, "--guests", string(t.Mode)}
	if t.Mode != node.GuestsSim && t.images != "" && t.images != local.DefaultImages() {
		words = append(words, "--images", t.images)
	}
	for i, word := range words {
		if strings.ContainsAny(word, " \t\"'$`\\&;|<>()*?[]#~!{}") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// nodeStates are the state folders of the twin's nodes that are there.
func (t *Twin) nodeStates() (dirs []string) {
	t.mu.Lock()
	all := []string{t.NodeDir()}
	for _, n := range t.nodes {
		all = append(all, n.state)
	}
	t.mu.Unlock()
	slices.Sort(all)
	for _, dir := range slices.Compact(all) {
		if _, err := os.Stat(local.Layout(dir).Mark()); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// processLogs are the files that the cloud and all nodes that were started write what they say to.
func (t *Twin) processLogs() (paths []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cloud != nil {
		paths = append(paths, t.cloud.log)
	}
	for _, n := range t.nodes {
		if _, err := os.Stat(n.process.log); err == nil && !slices.Contains(paths, n.process.log) {
			paths = append(paths, n.process.log)
		}
	}
	return paths
}

// keepRecording makes a bundle of what led to a spec's failure and tells the one command that does it again. A bundle
// that is too long makes way for one from the spec's beginning on.
func (t *Twin) keepRecording(ctx context.Context, l *locker, report ginkgo.SpecReport) {
	if l.dir == "" {
		l.dir = defaultArtifacts()
		defer func() { l.dir = "" }() // nobody asked for the rest
	}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		noBundle(err)
		return
	}
	file := filepath.Join(l.dir, "bundle.zip")
	told, err := t.Bundle(ctx, file)
	if err == nil && l.take(file, maxBundle) != nil {
		if told, err = t.Bundle(ctx, file, "--since", report.StartTime.UTC().Format(time.RFC3339Nano)); err == nil {
			err = l.take(file, maxBundle)
		}
	}
	if err != nil {
		noBundle(err)
		return
	}
	ginkgo.AddReportEntry(verdict.Replay, told, ginkgo.ReportEntryVisibilityFailureOrVerbose)
}

func noBundle(err error) {
	ginkgo.AddReportEntry("replay", fmt.Sprintf("no bundle was kept: %v", err),
		ginkgo.ReportEntryVisibilityFailureOrVerbose)
}

// defaultArtifacts is where a spec's bundle goes when the environment names no folder: below artifacts in the module's
// folder, or in the working folder of a suite that belongs to none.
func defaultArtifacts() string {
	name := filepath.Join("artifacts", "failed", folderName(ginkgo.CurrentSpecReport().FullText()))
	here, err := os.Getwd()
	if err != nil {
		return name
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, name)
		}
		if dir == filepath.Dir(dir) {
			return filepath.Join(here, name)
		}
	}
}
