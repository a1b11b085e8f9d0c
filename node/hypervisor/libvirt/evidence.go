package libvirt

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"

	"libvirt.org/go/libvirt"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var _ hypervisor.Witness = (*machine)(nil)

// Evidence is the domain's XML, without what libvirt would show only to those who may see secrets, and QEMU's own
// words. Those of a daemon's are the daemon's. Of a machine that was killed it is what Kill found.
func (m *machine) Evidence(ctx context.Context) (map[string][]byte, error) {
	d, id := m.driver, m.notes.ID
	found := make(chan map[string][]byte, 1) // which outlives this call when ctx ends
	err := m.do(ctx, "evidence", func(domain *libvirt.Domain) error {
		name, err := domain.GetName()
		if err != nil {
			return err
		}
		text, err := domain.GetXMLDesc(0)
		if err == nil {
			found <- d.show(id, name, text)
		}
		return err
	})
	files := d.remains.of(id)
	switch {
	case err == nil && files == nil:
		return <-found, nil
	case err == nil:
		maps.Copy(files, <-found) // a Kill came in between, and may have taken QEMU's words away
	case files != nil && errors.Is(err, hypervisor.ErrNotFound):
		err = nil
	}
	return files, err
}

// show is what there is to show of a machine whose domain has this name and XML.
func (d *Driver) show(id, name, text string) map[string][]byte {
	files := map[string][]byte{hypervisor.EvidenceDomain: []byte(text[max(0, len(text)-hypervisor.MaxEvidence):])}
	if !d.cfg.embedded() {
		return files
	}
	log, err := endOf(d.logFile(name))
	switch {
	case errors.Is(err, fs.ErrNotExist): // it said nothing
	case err != nil:
		d.cfg.Logger.Warn("read what QEMU said", "machine", id, "error", err)
	default:
		files[hypervisor.EvidenceLog] = log
	}
	return files
}

// endOf reads a file, or its last MaxEvidence bytes.
func endOf(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(max(0, info.Size()-hypervisor.MaxEvidence), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(file, hypervisor.MaxEvidence))
}
