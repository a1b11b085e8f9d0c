package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/events"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// mostOfLog bounds what is taken of a log or console, in bytes: its end tells more than its beginning.
const mostOfLog = 16 << 20

// Source is what a bundle is made of.
type Source struct {
	// State is the state folder of a cloud, or of a node by itself.
	State local.Layout
	// Nodes are the state folders of nodes on this machine that have one of their own. Those in which guests' consoles
	// lie need not be named.
	Nodes []local.Layout
	// Logs are files that the processes of cloud and nodes write what they say to.
	Logs []string
	// Images is the folder of guest images; only manifests are taken.
	Images string
	// Selection leaves out other events, and guests that they do not name.
	Selection events.Selection
	// Status is what runs, nil when nothing does.
	Status *operator.Status
	// Screenshot takes a picture (PNG) of a guest's display; nil when nothing runs.
	Screenshot func(ctx context.Context, instanceID string) ([]byte, error)
	// Records are the cloud's, or a copy of them; nil when it has none or they cannot be opened.
	Records *store.Store
}

// stage is a folder where the files of a bundle are gathered, and looked at, before it is written.
type stage struct {
	dir string
	src Source
	// guests are those whose events are wanted; only they are taken when the selection is of some.
	guests map[string]bool
	// beside are guests of which only the records are taken: those that have to do with the wanted ones.
	beside map[string]bool
	// balancers are the load balancers that are wanted, by their names in lower case.
	balancers map[string]bool
	topology  Topology
	onHost    []host
	// beginning is how things were before the first event, and made are the records that the calls of a bundle of one
	// guest or load balancer wrote.
	beginning *beginning
	made      map[string]bool
}

// gather copies everything.
func (s *stage) gather(ctx context.Context) error {
	found, err := s.events()
	if err != nil {
		return err
	}
	if s.src.Status != nil {
		text, err := json.MarshalIndent(s.src.Status, "", "  ")
		if err != nil {
			return fmt.Errorf("write status: %w", err)
		}
		if err := s.write(statusFile, text); err != nil {
			return err
		}
	}
	if err := s.cloud(ctx); err != nil {
		return err
	}
	machines, err := s.machines()
	if err != nil {
		return err
	}
	if !found && machines == 0 && s.src.Status == nil {
		return fmt.Errorf("%w: %s; name its folder with --state", ErrNothing, s.src.State)
	}
	return errors.Join(s.libvirt(), s.manifests(), s.screens(ctx), s.logs())
}

// cloud writes what the cloud keeps, and what it was made of.
func (s *stage) cloud(ctx context.Context) error {
	if err := errors.Join(s.learnBackends(ctx), s.records(ctx), s.start(ctx)); err != nil {
		return err
	}
	if err := s.tail(s.src.State.Faults(), faultsFile); err != nil || s.src.Records == nil {
		return err
	}
	text, err := json.MarshalIndent(s.topology, "", "  ")
	if err != nil {
		return fmt.Errorf("write topology: %w", err)
	}
	return s.write(topologyFile, text)
}

// events writes those that are wanted and notes the guests that they name.
func (s *stage) events() (found bool, err error) {
	parts := partWriter{create: func(name string) (io.WriteCloser, error) { return s.create(name) }}
	s.guests, s.beside, s.balancers = map[string]bool{}, map[string]bool{}, map[string]bool{}
	s.beginning = newBeginning()
	if name := s.src.Selection.LoadBalancer; name != "" {
		s.balancers[strings.ToLower(name)] = true
	}
	calls := map[string]bool{} // their traces
	var fault error
	if s.src.Selection.Twice() {
		// The first events of a load balancer's VM come before the word whose VM it is.
		_ = journal.Read(s.src.State.Journal(), func(ev journal.Event) { s.src.Selection.Wants(&ev) })
	}
	err = journal.Read(s.src.State.Journal(), func(ev journal.Event) {
		in := s.src.Selection.Wants(&ev)
		s.beginning.see(&ev, in)
		if fault != nil || !in && !s.wantsBeside(&ev) {
			return
		}
		s.learnFrom(&ev, calls)
		text, err := json.Marshal(ev)
		if err == nil {
			err = parts.write(append(text, '\n'))
		}
		fault = err
	})
	found = err == nil
	if err == nil && s.ofOne() {
		err = s.learnMade(calls)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return found, errors.Join(err, fault, parts.close())
}

// learnFrom notes what an event names: guests, load balancers, and the traces of users' calls.
func (s *stage) learnFrom(ev *journal.Event, calls map[string]bool) {
	if ev.Kind == "elb.lbvm_launched" {
		s.balancers[strings.ToLower(path.Base(ev.Subject))] = true
	}
	if ev.Kind == "api.request" && ev.Attributes["instance"] == "" && ev.Trace != "" {
		calls[ev.Trace] = true
		for _, id := range namedInstances.FindAllString(ev.Attributes["params"], -1) {
			s.beside[id] = true
		}
	}
	for _, name := range []string{ev.Subject, ev.Attributes["instance"]} {
		if strings.HasPrefix(name, "i-") {
			s.guests[name] = true
		}
	}
}

// wants says whether a guest's files are wanted.
func (s *stage) wants(instance string) bool { return s.src.Selection.All() || s.guests[instance] }

// machines copies what guests left behind, each once: of nodes in this folder, and of those elsewhere on this host.
// n is how many guests there were.
func (s *stage) machines() (n int, err error) {
	consoles := map[string]string{} // by guest
	for _, g := range s.topology.Guests {
		consoles[g.ID] = g.console
	}
	if s.src.Status != nil {
		for _, i := range s.src.Status.Instances {
			consoles[i.ID] = i.ConsolePath
		}
	}
	if s.onHost, err = s.hosts(consoles); err != nil {
		return 0, err
	}
	folders := []string{string(s.src.State)} // a node's own folder, without a state folder around it
	for _, h := range s.onHost {
		if h.of == nil {
			folders = append(folders, h.layout.Node())
		}
	}
	var errs []error
	for _, node := range folders {
		for _, pattern := range []string{"ended/*." + consoleFile, "machines/*/" + consoleFile} {
			paths, err := filepath.Glob(filepath.Join(node, filepath.FromSlash(pattern)))
			errs = append(errs, err)
			for _, path := range paths {
				consoles[guestOfConsole(path)] = path
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(consoles)) {
		if !isConsole(id, consoles[id]) {
			continue
		}
		if n++; s.wants(id) {
			errs = append(errs, s.guest(id, consoles[id]))
		}
	}
	return n, errors.Join(errs...)
}

// besideConsole are the files that nodes keep beside a guest's console: its frames, and what the hypervisor had to show
// of it when it ended.
var besideConsole = []string{"frames.pcap", "frames.1.pcap", hypervisor.EvidenceDomain, hypervisor.EvidenceLog}

// guestOfConsole is whose console a file is: of a machine that is there, or of one that has ended.
func guestOfConsole(path string) string {
	if id, ended := strings.CutSuffix(filepath.Base(path), "."+consoleFile); ended {
		return id
	}
	return filepath.Base(filepath.Dir(path))
}

// isConsole says whether a path, which may be a node's word, is one where nodes keep a guest's console, and no other
// file of this host's.
func isConsole(id, path string) bool {
	folder := filepath.Dir(path)
	switch filepath.Base(path) {
	case consoleFile:
		return filepath.Base(folder) == id && filepath.Base(filepath.Dir(folder)) == "machines"
	case id + "." + consoleFile:
		return filepath.Base(folder) == "ended"
	}
	return false
}

// guest copies what one guest left behind: its console, and what lies beside it.
func (s *stage) guest(id, console string) error {
	errs := []error{s.tail(console, filepath.Join(guestsFolder, id, consoleFile))}
	for _, name := range besideConsole {
		path := strings.TrimSuffix(console, consoleFile) + name
		errs = append(errs, s.tail(path, filepath.Join(guestsFolder, id, name)))
	}
	return errors.Join(errs...)
}

// manifests copies those of the images.
func (s *stage) manifests() error {
	paths, err := filepath.Glob(filepath.Join(s.src.Images, "*", builder.ManifestFile))
	if err != nil {
		return fmt.Errorf("look for images: %w", err)
	}
	var errs []error
	for _, path := range paths {
		errs = append(errs, s.tail(path, filepath.Join(imagesFolder, filepath.Base(filepath.Dir(path))+".json")))
	}
	return errors.Join(errs...)
}

// tail copies a file, or the end of one that is too long. One that is not there is left out.
func (s *stage) tail(path, name string) error {
	// A link may lead to what its maker cannot read, and a pipe never ends.
	from, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take %s: %w", name, err)
	}
	defer func() { _ = from.Close() }()
	info, err := from.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() > mostOfLog {
		_, err = from.Seek(-mostOfLog, io.SeekEnd)
	}
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(fmt.Errorf("take %s: not a file", path), err)
	}
	to, err := s.create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.LimitReader(from, mostOfLog))
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("take %s: %w", name, err)
	}
	return nil
}

func (s *stage) write(name string, text []byte) error {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// create makes a new file in the stage. Two of one name, as of a node in two places, cannot be.
func (s *stage) create(name string) (*os.File, error) {
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("take %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take %s: %w", name, err)
	}
	return f, nil
}

// names returns the files of the stage with slashes, sorted; the events come first, so that a reader has them soon.
func (s *stage) names() (names []string, err error) {
	err = filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(s.dir, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	slices.Sort(names)
	return names, err
}
