package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// busyboxPackage is Debian's BusyBox that needs no libraries.
const busyboxPackage = "busybox-static"

// Where it lies in the package and in the initramfs. Package agent/guest starts the latter.
const (
	busyboxInPackage = "bin/busybox"
	busyboxFile      = "bin/busybox"
)

// program is a file that an image carries beside the agent: for people who log in to run, or for what they run to read.
type program struct {
	path string // in the initramfs
	data []byte
	from File // what it came from
}

// programs are those of a flavour. A load balancer's guest has none: nobody logs in there, and what is not there cannot
// be abused.
func (b *build) programs(ctx context.Context, f Flavour) ([]program, error) {
	if f != Web {
		return nil, nil
	}
	p, err := b.busybox(ctx)
	if p == nil || err != nil {
		return nil, err
	}
	return []program{
		*p, textFile("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), textFile("etc/group", "root:x:0:\n"),
	}, nil
}

// textFile is a file that a program reads. Like that it is one of the image's inputs: another text is another image.
func textFile(path, text string) program {
	return program{path: path, data: []byte(text),
		from: File{Name: path, Size: int64(len(text)), SHA256: hexSum([]byte(text))}}
}

// busybox returns one's own BusyBox or the package's. Who builds from a kernel of one's own may have no packages, and
// gets an image without it.
func (b *build) busybox(ctx context.Context) (*program, error) {
	path, from := b.cfg.BusyBox, File{Name: "busybox"}
	switch {
	case path != "":
	case b.cfg.KernelPath != "":
		return nil, nil
	default:
		p, err := queryPackage(ctx, busyboxPackage)
		if err != nil {
			return nil, err
		}
		deb, err := b.download(ctx, p)
		if err != nil {
			return nil, err
		}
		if path, err = b.unpackBusybox(ctx, p, deb); err != nil {
			return nil, err
		}
		from.Name = filepath.Base(deb)
	}
	op := "read " + path
	data, err := os.ReadFile(path)
	if err == nil {
		err = checkStatic(data)
	}
	if err != nil {
		return nil, fail(op, fmt.Errorf("%w: %w", ErrNoBusyBox, err), "give a static x86-64 BusyBox with --busybox")
	}
	from.Size, from.SHA256 = int64(len(data)), hexSum(data)
	return &program{path: busyboxFile, data: data, from: from}, nil
}

// unpackBusybox takes it out of the package at deb, once.
func (b *build) unpackBusybox(ctx context.Context, p debianPackage, deb string) (string, error) {
	op := "unpack " + filepath.Base(deb)
	target := filepath.Join(b.cfg.CacheDir, "busybox-"+shortSum(p.sha256))
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	all, err := os.MkdirTemp(b.tmp, "busybox")
	if err != nil {
		return "", fail(op, err, "")
	}
	if _, err := runTool(ctx, unpackTimeout, "", "dpkg-deb", "--extract", deb, all); err != nil {
		return "", fail(op, err, "")
	}
	data, err := os.ReadFile(filepath.Join(all, busyboxInPackage))
	if err != nil {
		return "", fail(op, fmt.Errorf("%w: %w", ErrNoBusyBox, err), "")
	}
	return target, fail(op, writeFile(target, data), "")
}
