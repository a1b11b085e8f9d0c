// Package bundle puts the evidence of a cloud or node into one file that can be carried away, and reads it again:
// events, guests' consoles, screens and frames, their domain XML and QEMU's logs, what ran where, and on what, and the
// cloud's records with test keys in the place of its own. A bundle holds no secret: it takes only files that are known
// to hold none, and before it is written they are searched for the keys of the state that they come from.
//
// collect.go says what is taken, records.go what becomes of the cloud's records, start.go what there was before the
// first event, write.go how all is checked and written. read.go and parts.go are what others open it with, report.go
// sums it up, and page.go writes a page for a browser.
package bundle

import (
	"errors"
	"runtime"
	"runtime/debug"
	"time"
)

// Format is the version of the file's layout. It changes when an older reader would read a newer file wrongly. Files of
// firstFormat on are read: there all events are in one file.
const (
	Format      = 2
	firstFormat = 1
)

// The names of files in a bundle, which is a zip archive.
const (
	manifestFile = "manifest.json"
	eventsFile   = "events.jsonl" // of format 1
	eventsFolder = "events"
	statusFile   = "status.json"
	topologyFile = "topology.json"
	recordsFile  = "store.json"
	startFile    = "start.json"
	faultsFile   = "faults.json"
	guestsFolder = "guests"
	imagesFolder = "images"
	logsFolder   = "logs"
	consoleFile  = "console.log"
)

// Errors of this package.
var (
	// ErrNotBundle means that a file is none of ours, cut short or altered.
	ErrNotBundle = errors.New("not a bundle")
	// ErrSecret means that a private key lies in what would be put into the bundle, which is then not written.
	ErrSecret = errors.New("private keys lie where they must not be")
	// ErrNothing means that there is nothing to put into a bundle.
	ErrNothing = errors.New("no cloud or node has run there")
)

// Manifest is what a bundle says of itself.
type Manifest struct {
	Format  int       `json:"format"`
	Made    time.Time `json:"made"`
	State   string    `json:"state"` // the folder that it is of
	Program Program   `json:"program"`
	// Selected are the filters that left things out, by the names of their flags.
	Selected map[string]string `json:"selected,omitempty"`
	Files    []File            `json:"files"`
}

// Program is the one that made the bundle, and its machine.
type Program struct {
	Version  string `json:"version"` // of cloudtwin's module and commit, as far as they are known
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Cores    int    `json:"cores"`
}

// File is one file of a bundle.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

func thisProgram() Program {
	p := Program{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Cores: runtime.NumCPU()}
	if info, ok := debug.ReadBuildInfo(); ok {
		p.Version = info.Main.Version
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				p.Version += " " + setting.Value
			}
		}
	}
	return p
}
