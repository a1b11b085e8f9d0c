package twin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
	"github.com/cloudtwin/cloudtwin/node"
)

// keyWatch collects the private keys that a twin's run makes.
type keyWatch struct {
	leakscan.Suite

	media  sync.Once
	guests sync.Once
}

// mediaOf is the folder of the media of the node in a state folder.
func mediaOf(state string) string { return filepath.Join(local.Layout(state).Media(), "media") }

// media is the folder of the node's media.
func (t *Twin) media() string { return mediaOf(t.NodeDir()) }

// watchMedia takes the LBPKs of the node's media from now on. Call it before the node starts.
func (t *Twin) watchMedia() { t.keys.media.Do(func() { t.keys.Watch(t.media()) }) }

// FindLeaks looks for every private key that the run made, in the twin's files, in what failed specs left, and in the
// memory of cloud, nodes and guests while they still run. The error names each that is where none may be.
// Every twin does so when it ends; no media are watched afterwards. A node in the suite's own process is the exception:
// that process made the users' keys and knows what is looked for, so that only its files, its media and its guests are
// looked at. A further node is looked at when it leaves.
func (t *Twin) FindLeaks() error {
	layout := local.Layout(t.StateDir)
	site, err := t.site("", t.NodeDir(), t.node.running())
	found := leakscan.Twin{
		CloudDir: layout.Cloud(), Store: t.store, Trees: append([]string{t.dir, filepath.Dir(t.media())}, t.leftBySpecs()...),
		Cloud: t.cloud.running(), Node: site,
	}
	report, leaks := t.keys.AfterSuite(context.Background(), found)
	ginkgo.AddReportEntry("leak scan", report.String(), ginkgo.ReportEntryVisibilityFailureOrVerbose)
	return errors.Join(err, leaks)
}

// site is a node with the guests that it has now.
func (t *Twin) site(id, state string, pid int) (leakscan.Site, error) {
	s := leakscan.Site{ID: id, Dir: local.Layout(state).Node(), Media: mediaOf(state), PID: pid,
		Simulated: t.Mode == node.GuestsSim}
	pids, err := local.GuestProcesses(local.Layout(state))
	if err != nil {
		return s, err
	}
	s.Guests = leakscan.GuestsOf(local.Layout(t.StateDir).Journal(), pids...)
	return s, nil
}

// searchNode looks at a node, with its guests, that is about to end.
func (t *Twin) searchNode(id, state string, pid int) {
	ginkgo.GinkgoHelper()
	site, err := t.site(id, state, pid)
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "look for the guests of the node in %s", state)
	report, err := t.keys.Look(context.Background(), site, state)
	ginkgo.AddReportEntry("leak scan of the node in "+filepath.Base(state), report.String(),
		ginkgo.ReportEntryVisibilityFailureOrVerbose)
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "search for the run's private keys in the node in %s", state)
}

// searchGuests looks at the guests that serve when the first load balancer of a suite goes: when the suite ends there
// are none any more. Once is enough, since every suite's guests are the same programs. A simulated guest is its node's
// process.
func (t *Twin) searchGuests() {
	ginkgo.GinkgoHelper()
	if t.Mode != node.GuestsSim {
		t.keys.guests.Do(func() { t.searchNode("", t.NodeDir(), 0) })
	}
}

// leftBySpecs are the folders of what failed specs left since the twin began.
func (t *Twin) leftBySpecs() (dirs []string) {
	for _, root := range []string{os.Getenv(artifactsVariable), filepath.Dir(defaultArtifacts())} {
		entries, err := os.ReadDir(root)
		if err != nil {
			continue // nothing failed
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && !info.ModTime().Before(t.began.Truncate(time.Second)) {
				dirs = append(dirs, filepath.Join(root, e.Name()))
			}
		}
	}
	return dirs
}
