package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// record is what is kept of a machine for the driver that comes after. A machine's end needs no word in it: machines
// end with their driver at the latest.
type record struct {
	ID      string `json:"id"`
	Console string `json:"console"`
	From    int64  `json:"from"` // where the machine's bytes begin in the console log
	Display bool   `json:"display,omitempty"`
}

const recordSuffix = ".json"

// records are a driver's folder.
type records struct{ dir string }

func (r records) path(id string) string { return filepath.Join(r.dir, id+recordSuffix) }

// load makes the folder and reads what is in it. A record that makes no sense is of a process that was killed while it
// wrote it, before the machine began: it is removed.
func (r records) load() ([]record, error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of simulated machines: %w", err)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("read folder of simulated machines: %w", err)
	}
	var all []record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || !hypervisor.ValidID(id) {
			continue
		}
		data, err := os.ReadFile(r.path(id))
		if err != nil {
			return nil, fmt.Errorf("read record of machine %s: %w", id, err)
		}
		var rec record
		if json.Unmarshal(data, &rec) != nil || rec.ID != id {
			if err := r.remove(id); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, rec)
	}
	return all, nil
}

func (r records) save(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record of machine %s: %w", rec.ID, err)
	}
	if err := os.WriteFile(r.path(rec.ID), data, 0o600); err != nil {
		return fmt.Errorf("write record of machine %s: %w", rec.ID, err)
	}
	return nil
}

func (r records) remove(id string) error {
	if err := os.Remove(r.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of machine %s: %w", id, err)
	}
	return nil
}
