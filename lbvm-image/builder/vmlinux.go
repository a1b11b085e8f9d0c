package builder

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// maxVmlinux bounds an unpacked kernel, in bytes.
const maxVmlinux = 512 << 20

// extractVmlinux returns the ELF kernel inside image, which is a bzImage or already an ELF file, fit for PVH boot.
func extractVmlinux(image []byte) ([]byte, error) {
	if !bytes.HasPrefix(image, []byte(elf.ELFMAG)) {
		payload, err := bzImagePayload(image)
		if err != nil {
			return nil, err
		}
		if image, err = decompressKernel(payload); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotKernel, err)
		}
	}
	if err := checkPVH(image); err != nil {
		return nil, err
	}
	return trimZeros(image)
}

// trimZeros shortens each loadable segment's share of the file by the zeros at its end: memory is zero anyway, and a
// third of Debian's kernel is nothing else. Section headers, which no loader needs, go too.
func trimZeros(vmlinux []byte) ([]byte, error) {
	var header elf.Header64
	if _, err := binary.Decode(vmlinux, binary.LittleEndian, &header); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotKernel, err)
	}
	out := bytes.Clone(vmlinux)
	end := header.Phoff
	for i := range uint64(header.Phnum) {
		at := header.Phoff + i*uint64(header.Phentsize)
		var p elf.Prog64
		if at > uint64(len(out)) {
			return nil, fmt.Errorf("%w: program headers are cut off", ErrNotKernel)
		}
		if _, err := binary.Decode(out[at:], binary.LittleEndian, &p); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotKernel, err)
		}
		if p.Off > uint64(len(out)) || p.Filesz > uint64(len(out))-p.Off {
			return nil, fmt.Errorf("%w: a segment is cut off", ErrNotKernel)
		}
		if elf.ProgType(p.Type) == elf.PT_LOAD {
			p.Filesz = uint64(len(bytes.TrimRight(out[p.Off:p.Off+p.Filesz], "\x00")))
			if _, err := binary.Encode(out[at:], binary.LittleEndian, &p); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNotKernel, err)
			}
		}
		end = max(end, p.Off+p.Filesz, at+uint64(header.Phentsize))
	}
	header.Shoff, header.Shnum, header.Shstrndx = 0, 0, 0
	if _, err := binary.Encode(out, binary.LittleEndian, &header); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotKernel, err)
	}
	return out[:end], nil
}

// bzImagePayload finds the compressed kernel in a bzImage, as Linux' Documentation/arch/x86/boot.rst describes it.
func bzImagePayload(image []byte) ([]byte, error) {
	const setupSectors, magic, version, payloadOffset, payloadLength, headerEnd = 0x1f1, 0x202, 0x206, 0x248, 0x24c, 0x250
	if len(image) < headerEnd || string(image[magic:magic+4]) != "HdrS" {
		return nil, fmt.Errorf("%w: neither an ELF file nor a bzImage", ErrNotKernel)
	}
	if v := binary.LittleEndian.Uint16(image[version:]); v < 0x208 {
		return nil, fmt.Errorf("%w: boot protocol %#x is older than 0x208", ErrNotKernel, v)
	}
	sectors := int64(image[setupSectors])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int64(binary.LittleEndian.Uint32(image[payloadOffset:]))
	end := start + int64(binary.LittleEndian.Uint32(image[payloadLength:]))
	if end > int64(len(image)) || end-start < 8 {
		return nil, fmt.Errorf("%w: the bzImage is cut off", ErrNotKernel)
	}
	return image[start:end], nil
}

// decompressKernel undoes whatever compression the kernel was built with. All formats but gzip carry the unpacked size
// in four more bytes at the end; readers that stop at their own end mark need not know.
func decompressKernel(payload []byte) ([]byte, error) {
	formats := []struct {
		magic string
		open  func(io.Reader) (io.Reader, error)
	}{
		{"\x1f\x8b", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"\x28\xb5\x2f\xfd", func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<28))
		}},
		{"\x02\x21\x4c\x18", func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil }},
		{"\x5d\x00\x00", func(r io.Reader) (io.Reader, error) { return lzma.NewReader(r) }},
	}
	if bytes.HasPrefix(payload, xzMagic) {
		return unxz(payload[:len(payload)-4], maxVmlinux)
	}
	for _, f := range formats {
		if !bytes.HasPrefix(payload, []byte(f.magic)) {
			continue
		}
		if f.magic != "\x1f\x8b" {
			payload = payload[:len(payload)-4]
		}
		r, err := f.open(bytes.NewReader(payload))
		if err != nil {
			return nil, fmt.Errorf("open compressed kernel: %w", err)
		}
		if c, ok := r.(*zstd.Decoder); ok {
			defer c.Close()
		}
		return readBounded(r, maxVmlinux)
	}
	return nil, fmt.Errorf("unknown compression (first bytes %x)", payload[:4])
}

// pvhNote is XEN_ELFNOTE_PHYS32_ENTRY: the address at which a PVH loader enters the kernel.
const pvhNote = 18

// checkPVH makes sure that the kernel is for x86-64 and names a PVH entry point.
func checkPVH(vmlinux []byte) error {
	f, err := elf.NewFile(bytes.NewReader(vmlinux))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotKernel, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%w: built for %v, not for x86-64", ErrNotKernel, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err != nil {
			return fmt.Errorf("%w: read notes: %w", ErrNotKernel, err)
		}
		if hasNote(notes, "Xen", pvhNote) {
			return nil
		}
	}
	return ErrNoPVH
}

// hasNote walks the notes of an ELF segment: name size, description size, type, then name and description, each
// padded to four bytes.
func hasNote(notes []byte, name string, kind uint32) bool {
	for len(notes) >= 12 {
		nameSize, descSize := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:])
		size := 12 + align4(uint64(nameSize)) + align4(uint64(descSize))
		if size > uint64(len(notes)) {
			return false
		}
		if binary.LittleEndian.Uint32(notes[8:]) == kind && string(bytes.TrimRight(notes[12:12+nameSize], "\x00")) == name {
			return true
		}
		notes = notes[size:]
	}
	return false
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }

// kernelRelease finds the release (6.1.0-56-amd64) in the kernel's version banner.
func kernelRelease(vmlinux []byte) (string, error) {
	const banner = "Linux version "
	for rest := vmlinux; ; {
		i := bytes.Index(rest, []byte(banner))
		if i < 0 {
			return "", errors.New("kernel carries no version banner")
		}
		rest = rest[i+len(banner):]
		end := bytes.IndexByte(rest, ' ')
		if end > 0 && end < 65 && rest[0] >= '0' && rest[0] <= '9' {
			return string(rest[:end]), nil
		}
	}
}
