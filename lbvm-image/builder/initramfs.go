package builder

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// Where the agent looks for things in the initramfs. Package agent/guest reads the same paths.
const (
	flavourFile = "etc/cloudtwin/flavour"
	moduleList  = "etc/cloudtwin/modules" // paths of modules, one a line, in the order in which to load them
	// displayModules is the same for those that only a guest with a display loads; missing when the image has none.
	displayModules = "etc/cloudtwin/display-modules"
)

// initramfs packs what a guest boots from: the agent, the modules, the flavour. It is not compressed: emulated CPUs
// unpack slower than the host copies. Owner, time stamps and inode numbers are fixed: equal contents are equal bytes.
func initramfs(f Flavour, agent []byte, modules []module, programs ...program) ([]byte, error) {
	records := []cpio.Record{
		cpio.Directory("dev", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1), // the kernel opens it for /init before anything is mounted
		cpio.Directory("etc", 0o755),
		cpio.Directory("etc/cloudtwin", 0o755),
		cpio.StaticFile(flavourFile, string(f)+"\n", 0o444),
		cpio.Directory("modules", 0o755),
	}
	var list, display strings.Builder
	for _, m := range modules {
		path, into := "modules/"+m.Name+".ko", &list
		if m.display {
			into = &display
		}
		fmt.Fprintf(into, "/%s\n", path)
		records = append(records, cpio.StaticFile(path, string(m.data), 0o444))
	}
	for _, dir := range []string{"proc", "run", "sys", "tmp"} {
		records = append(records, cpio.Directory(dir, 0o755))
	}
	if display.Len() > 0 {
		records = append(records, cpio.StaticFile(displayModules, display.String(), 0o444))
	}
	if len(programs) > 0 {
		records = append(records, cpio.Directory("bin", 0o755), cpio.Directory("root", 0o700),
			cpio.Symlink("bin/sh", "busybox"), cpio.Symlink("bin/curl", "../init"))
	}
	for _, p := range programs {
		records = append(records, cpio.StaticFile(p.path, string(p.data), 0o555))
	}
	records = append(records,
		cpio.StaticFile(moduleList, list.String(), 0o444),
		cpio.StaticFile("init", string(agent), 0o555))

	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, r := range records {
		r = cpio.MakeReproducible(r)
		r.Ino, r.NLink, r.UID, r.GID, r.MTime = uint64(i)+1, 1, 0, 0, 0
		if err := w.WriteRecord(r); err != nil {
			return nil, fmt.Errorf("pack %s: %w", r.Name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("pack initramfs: %w", err)
	}
	if out.Len() > MaxInitramfs {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, out.Len(), MaxInitramfs)
	}
	return out.Bytes(), nil
}
