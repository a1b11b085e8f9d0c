package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// RecordsFile says where the cloud's records are when they are not in the state folder: {"endpoints": ["URL", ...]}.
func (l Layout) RecordsFile() string { return filepath.Join(string(l), "records.json") }

// recordsPlace is what the file says.
type recordsPlace struct {
	Endpoints []string `json:"endpoints"`
}

// StoreEndpoints are the URLs of the etcd cluster that the cloud in the folder keeps its records in, or kept them in
// when it last ran; none when they lie in the folder itself.
func (l Layout) StoreEndpoints() ([]string, error) {
	text, err := os.ReadFile(l.RecordsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look where the cloud's records are: %w", err)
	}
	var place recordsPlace
	if err := json.Unmarshal(text, &place); err != nil {
		return nil, fmt.Errorf("look where the cloud's records are: read %s: %w", l.RecordsFile(), err)
	}
	return place.Endpoints, nil
}

// noteStore writes down where the records are, for commands that find the state folder without a flag.
func (l Layout) noteStore(endpoints []string) error {
	var err error
	if len(endpoints) == 0 {
		if err = os.Remove(l.RecordsFile()); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		var text []byte
		if text, err = json.Marshal(recordsPlace{endpoints}); err == nil {
			err = os.WriteFile(l.RecordsFile(), append(text, '\n'), 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("note where the cloud's records are: %w", err)
	}
	return nil
}
