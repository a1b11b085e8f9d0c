package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

const (
	recordFile   = "instance.json"
	consoleFile  = "console.log"
	socketSuffix = ".sock"
)

// record is what the node remembers of an instance for its own next start, so that it can look after its guests
// while the cloud is away. It never holds a credential.
type record struct {
	Instance *nodelink.Instance
	// Started is set when the machine was started, before the cloud is told so: it is never started again.
	Started bool
	// Ended is set when the guest ended by itself, with the state and reason that were reported.
	Ended         bool
	State, Reason string
	// Forked is set when the machine is a copy of a template: every medium of it says who it is.
	Forked bool
	// Credential is the fingerprint of the last credential that a medium was made from, or bootMedium.
	Credential string
	// Media counts the different credentials that the guest was given.
	Media int
	// Reboots are those that the machine has had; Rebooting is set until the machine that takes its place was started.
	Reboots   uint64
	Rebooting bool
	// From is where the machine's bytes begin in its console log, behind those of the machines before a reboot.
	From int64
}

// recordJSON is record's form on the disk; the instance is a protobuf message with a JSON form of its own.
type recordJSON struct {
	Instance      json.RawMessage `json:"instance"`
	Started       bool            `json:"started"`
	Ended         bool            `json:"ended,omitempty"`
	State         string          `json:"state,omitempty"`
	Reason        string          `json:"reason,omitempty"`
	CredentialSum string          `json:"credentialSum,omitempty"`
	Media         int             `json:"media,omitempty"`
	Forked        bool            `json:"forked,omitempty"`
	Reboots       uint64          `json:"reboots,omitempty"`
	Rebooting     bool            `json:"rebooting,omitempty"`
	From          int64           `json:"from,omitempty"`
}

// machineFiles are the folders of the machines: DIR/machines/ID, each mode 0700.
type machineFiles struct {
	dir, sockets string
	disk         func() error // why nothing can be written; nil: it can
}

// room says why nothing can be written.
func (f machineFiles) room() error {
	if f.disk == nil {
		return nil
	}
	return f.disk()
}

func (f machineFiles) machines() string         { return filepath.Join(f.dir, "machines") }
func (f machineFiles) folder(id string) string  { return filepath.Join(f.machines(), id) }
func (f machineFiles) console(id string) string { return filepath.Join(f.folder(id), consoleFile) }
func (f machineFiles) socket(id string) string  { return filepath.Join(f.sockets, id+socketSuffix) }

func (f machineFiles) save(r record) error {
	if err := f.room(); err != nil {
		return fmt.Errorf("save record of %s: %w", r.Instance.GetId(), err)
	}
	plain, ok := proto.Clone(r.Instance).(*nodelink.Instance)
	if !ok {
		return errors.New("save machine record: not an instance")
	}
	plain.Credential = nil
	instance, err := protojson.Marshal(plain)
	if err != nil {
		return fmt.Errorf("encode record of %s: %w", plain.GetId(), err)
	}
	data, err := json.Marshal(recordJSON{
		Instance: instance, Started: r.Started, Ended: r.Ended, State: r.State, Reason: r.Reason, CredentialSum: r.Credential,
		Media: r.Media, Forked: r.Forked, Reboots: r.Reboots, Rebooting: r.Rebooting, From: r.From,
	})
	if err != nil {
		return fmt.Errorf("encode record of %s: %w", plain.GetId(), err)
	}
	return writeFile(filepath.Join(f.folder(plain.GetId()), recordFile), data)
}

// makeFolder makes a machine's folder, in which its console and its record are to be.
func (f machineFiles) makeFolder(id string) error {
	if err := f.room(); err != nil {
		return fmt.Errorf("make machine folder: %w", err)
	}
	if err := os.Mkdir(f.folder(id), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make machine folder: %w", err)
	}
	return nil
}

// writeFile writes a file as a whole: after a crash it holds the old bytes or the new ones, or is cut short when there
// were no old ones.
func writeFile(path string, data []byte) error {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
		_, err = f.Write(data)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// records reads what is remembered. A folder whose record cannot be read is removed: the cloud knows better.
func (f machineFiles) records() ([]record, error) {
	entries, err := os.ReadDir(f.machines())
	if err != nil {
		return nil, fmt.Errorf("read machine folders: %w", err)
	}
	var out []record
	for _, e := range entries {
		if !e.IsDir() || !hypervisor.ValidID(e.Name()) {
			continue
		}
		r, err := f.load(e.Name())
		if err != nil {
			f.remove(e.Name())
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

func (f machineFiles) load(id string) (record, error) {
	data, err := os.ReadFile(filepath.Join(f.folder(id), recordFile))
	if err != nil {
		return record{}, err
	}
	var on recordJSON
	if err := json.Unmarshal(data, &on); err != nil {
		return record{}, err
	}
	r := record{
		Instance: &nodelink.Instance{}, Started: on.Started, Ended: on.Ended, State: on.State, Reason: on.Reason,
		Credential: on.CredentialSum, Media: on.Media, Forked: on.Forked,
		Reboots: on.Reboots, Rebooting: on.Rebooting, From: on.From,
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(on.Instance, r.Instance); err != nil {
		return record{}, err
	}
	if r.Instance.GetId() != id {
		return record{}, fmt.Errorf("record of %s lies in the folder of %s", r.Instance.GetId(), id)
	}
	return r, nil
}

func (f machineFiles) consoleSize(id string) int64 {
	info, err := os.Stat(f.console(id))
	if err != nil {
		return 0
	}
	return info.Size()
}

// remove deletes a machine's folder and socket. Its console is evidence and is kept among the last ended ones.
func (f machineFiles) remove(id string) {
	if f.consoleSize(id) > 0 {
		f.archive(id)
	}
	_ = os.RemoveAll(f.folder(id))
	_ = os.Remove(f.socket(id))
}
