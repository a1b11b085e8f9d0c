package bundle

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle/testkeys"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Records are a cloud's records with test keys in the place of its own. A cloud can start on them with RootKey.
type Records struct {
	Version int    `json:"version"`
	Seed    string `json:"seed"`    // hexadecimal; all test keys follow from it
	RootKey []byte `json:"rootKey"` // a test key that opens what is sealed in them
	// Records are in the order of their keys.
	Records []Record `json:"records"`
	// Notes tell what was replaced and what was left out.
	Notes []string `json:"notes"`
}

// Record is one record.
type Record struct {
	Key      string          `json:"key"` // its table, a slash, its key there
	Revision int64           `json:"revision"`
	Value    json.RawMessage `json:"value"`
}

// maxRecords bounds the records that are read at once, in bytes.
const maxRecords = 1 << 30

// Records returns the cloud's records, nil when the bundle is of no cloud.
func (b *Bundle) Records() (*Records, error) {
	if !b.has(recordsFile) {
		return nil, nil //nolint:nilnil // a node has none, which is no error
	}
	text, err := b.read(recordsFile, maxRecords)
	if err != nil {
		return nil, err
	}
	records := &Records{}
	if err := json.Unmarshal(text, records); err != nil {
		return nil, fmt.Errorf("%w: its %s: %w", ErrNotBundle, recordsFile, err)
	}
	return records, nil
}

// Load writes the records into a store that is empty, and the root key, mode 0600, into a file that is not there yet.
func (r *Records) Load(ctx context.Context, s *store.Store, rootKeyFile string) error {
	f, err := os.OpenFile(rootKeyFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("load records: write the test root key: %w", err)
	}
	_, err = f.Write(r.RootKey)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("load records: write the test root key: %w", err)
	}
	raw := make([]store.Raw, len(r.Records))
	for i, record := range r.Records {
		raw[i] = store.Raw{Key: record.Key, Value: record.Value}
	}
	return s.Restore(ctx, raw)
}

// The tables that are read for themselves; their packages own them.
const (
	caTable       = "placement-ca/"
	iamKeysTable  = "iam-keys/"
	iamCertKey    = iamKeysTable + "authority"
	wrappedTable  = "iam-root-key/"
	instanceTable = "ec2-instances/"
	balancerTable = "elb-load-balancers/"
	nodeTable     = "placement-nodes/"
)

// records writes what the cloud keeps, with other keys, one record at a time.
func (s *stage) records(ctx context.Context) error {
	if s.src.Records == nil {
		return nil
	}
	seed, replacer, err := s.learn(ctx)
	if err != nil {
		return fmt.Errorf("replace the keys in the records: %w", err)
	}
	f, err := s.create(recordsFile)
	if err != nil {
		return err
	}
	w := &recordWriter{out: bufio.NewWriter(f)}
	w.head(seed)
	left := 0
	err = s.src.Records.Dump(ctx, func(raw store.Raw) error {
		switch {
		case strings.HasPrefix(raw.Key, wrappedTable): // the test root key is a file's
			return nil
		case !s.wantsRecord(&raw):
			left++
			return nil
		}
		s.topology.learn(&raw)
		return s.record(w, &raw, replacer)
	})
	notes := append([]string{"users' user data is blanked at its length"}, replacer.Notes()...)
	if left > 0 {
		notes = append(notes, fmt.Sprintf("records of others than were selected, left out: %d", left))
	}
	return errors.Join(err, w.end(notes, nil), f.Close())
}

// record writes a record with other keys and without a user's user data.
func (s *stage) record(w *recordWriter, raw *store.Raw, replacer *testkeys.Replacer) error {
	value, err := replacer.Replace(raw.Value)
	if err == nil && strings.HasPrefix(raw.Key, instanceTable) {
		value, err = withoutUserData(value)
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", raw.Key, err)
	}
	return w.record(Record{raw.Key, raw.Revision, value})
}

// learn reads the cloud's own identities before anything else: others are signed by them and sealed to them.
func (s *stage) learn(ctx context.Context) (testkeys.Seed, *testkeys.Replacer, error) {
	var own []store.Raw
	err := s.src.Records.Dump(ctx, func(raw store.Raw) error {
		if strings.HasPrefix(raw.Key, caTable) || strings.HasPrefix(raw.Key, iamKeysTable) {
			own = append(own, raw)
		}
		return nil
	})
	if err != nil {
		return testkeys.Seed{}, nil, err
	}
	var public struct{ CertificateDER []byte }
	for _, raw := range own {
		if strings.HasPrefix(raw.Key, caTable) {
			if err := json.Unmarshal(raw.Value, &public); err != nil {
				return testkeys.Seed{}, nil, fmt.Errorf("record %s: %w", raw.Key, err)
			}
		}
	}
	seed := testkeys.SeedFrom(public.CertificateDER)
	replacer := testkeys.New(seed)
	for _, raw := range own {
		if err := replacer.Learn(raw.Value, raw.Key == iamCertKey); err != nil {
			return seed, nil, fmt.Errorf("record %s: %w", raw.Key, err)
		}
	}
	return seed, replacer, nil
}

// wantsRecord leaves out guests and load balancers that were not selected.
func (s *stage) wantsRecord(raw *store.Raw) bool {
	if s.src.Selection.VM == "" && s.src.Selection.LoadBalancer == "" ||
		!strings.HasPrefix(raw.Key, "ec2-") && !strings.HasPrefix(raw.Key, "elb-") {
		return true
	}
	text := raw.Key + " " + string(raw.Value)
	for _, ids := range []map[string]bool{s.guests, s.beside} {
		for id := range ids {
			if strings.Contains(text, id) {
				return true
			}
		}
	}
	for name := range s.balancers {
		if strings.HasPrefix(raw.Key, "elb-") && strings.Contains(strings.ToLower(text), "/"+name) {
			return true
		}
	}
	return false
}

// withoutUserData blanks what a user gave to an instance, which may hold anything. What the cloud itself gave to a load
// balancer's VM stays.
func withoutUserData(value []byte) ([]byte, error) {
	var instance map[string]json.RawMessage
	var data struct {
		System   bool
		UserData []byte
	}
	if err := errors.Join(json.Unmarshal(value, &instance), json.Unmarshal(value, &data)); err != nil {
		return nil, err
	}
	if data.System || len(data.UserData) == 0 {
		return value, nil
	}
	blank, err := json.Marshal([]byte(strings.Repeat("x", len(data.UserData))))
	if err != nil {
		return nil, err
	}
	instance["UserData"] = blank
	return json.Marshal(instance)
}

// recordWriter writes Records as they come.
type recordWriter struct {
	out *bufio.Writer
	n   int
	err error
}

func (w *recordWriter) raw(text string) {
	if w.err == nil {
		_, w.err = io.WriteString(w.out, text)
	}
}

func (w *recordWriter) json(value any) {
	text, err := json.Marshal(value)
	if w.err == nil {
		w.err = err
	}
	w.raw(string(text))
}

func (w *recordWriter) head(seed testkeys.Seed) {
	w.raw(`{"version":1,"seed":"` + hex.EncodeToString(seed[:]) + `","rootKey":`)
	w.json(seed.RootKey())
	w.raw(`,"records":[`)
}

func (w *recordWriter) record(r Record) error {
	if w.n++; w.n > 1 {
		w.raw(",")
	}
	w.raw("\n")
	w.json(r)
	return w.err
}

func (w *recordWriter) end(notes []string, events []journal.Event) error {
	w.raw("\n],\"notes\":")
	w.json(notes)
	if len(events) > 0 {
		w.raw(",\"events\":")
		w.json(events)
	}
	w.raw("}\n")
	return errors.Join(w.err, w.out.Flush())
}
