package builder

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// testELF describes a small ELF file for x86-64.
type testELF struct {
	machine  elf.Machine // default EM_X86_64
	text     []byte      // contents of a loadable segment
	notes    []byte      // contents of a note segment; nil for none
	interp   bool        // with a dynamic loader
	sections map[string][]byte
}

func (e testELF) bytes(t testing.TB) []byte {
	t.Helper()
	if e.machine == 0 {
		e.machine = elf.EM_X86_64
	}
	var progs []elf.Prog64
	var body bytes.Buffer
	const bodyAt = 0x1000
	add := func(data []byte) (off uint64) {
		off = bodyAt + uint64(body.Len())
		body.Write(data)
		return off
	}
	segment := func(kind elf.ProgType, data []byte) {
		size := uint64(len(data))
		progs = append(progs, elf.Prog64{Type: uint32(kind), Off: add(data), Filesz: size, Memsz: size, Align: 1})
	}
	if e.notes != nil {
		segment(elf.PT_NOTE, e.notes)
	}
	if e.interp {
		segment(elf.PT_INTERP, []byte("/lib64/ld.so\x00"))
	}
	segment(elf.PT_LOAD, e.text)
	names := []byte{0}
	sections := []elf.Section64{{}}
	for name, data := range e.sections {
		sections = append(sections, elf.Section64{
			Name: uint32(len(names)), Type: uint32(elf.SHT_PROGBITS), Off: add(data), Size: uint64(len(data)), Addralign: 1,
		})
		names = append(append(names, name...), 0)
	}
	nameAt := uint32(len(names))
	names = append(names, ".shstrtab\x00"...)
	sections = append(sections, elf.Section64{
		Name: nameAt, Type: uint32(elf.SHT_STRTAB), Off: add(names), Size: uint64(len(names)), Addralign: 1,
	})
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(e.machine), Version: 1, Phoff: 64, Shoff: bodyAt + uint64(body.Len()),
		Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)), Shentsize: 64, Shnum: uint16(len(sections)),
		Shstrndx: uint16(len(sections) - 1),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = 2, 1, 1
	var out bytes.Buffer
	write := func(v any) {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	write(header)
	write(progs)
	out.Write(make([]byte, bodyAt-out.Len()))
	out.Write(body.Bytes())
	write(sections)
	return out.Bytes()
}

// xenNote is a note as a kernel with CONFIG_PVH carries it.
func xenNote(kind uint32) []byte {
	note := binary.LittleEndian.AppendUint32(nil, 4)
	note = binary.LittleEndian.AppendUint32(note, 8)
	note = binary.LittleEndian.AppendUint32(note, kind)
	note = append(note, "Xen\x00"...)
	return binary.LittleEndian.AppendUint64(note, 0x1000)
}

const testRelease = "6.1.0-99-amd64"

// testVmlinux is a kernel with a banner, zeros at its end and a PVH note after another one.
func testVmlinux(t testing.TB) []byte {
	t.Helper()
	text := append(
		[]byte("Linux version %s\x00code Linux version "+testRelease+" (builder@host)\x00"),
		make([]byte, 64<<10)...)
	return testELF{text: text, notes: append(xenNote(6), xenNote(pvhNote)...)}.bytes(t)
}

// testBzImage wraps a compressed kernel the way the kernel's build does.
func testBzImage(payload []byte) []byte {
	image := make([]byte, 5*512)
	image[0x1f1] = 4
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x206:], 0x20f)
	const gap = 100
	binary.LittleEndian.PutUint32(image[0x248:], gap)
	binary.LittleEndian.PutUint32(image[0x24c:], uint32(len(payload)))
	image = append(image, make([]byte, gap)...)
	image = append(image, payload...)
	return append(image, "what follows is not the payload"...)
}

// testModule is a module that depends on others.
func testModule(t testing.TB, name string, depends ...string) []byte {
	t.Helper()
	info := fmt.Sprintf("license=GPL\x00depends=%s\x00name=%s\x00vermagic=%s SMP mod_unload \x00",
		strings.Join(depends, ","), name, testRelease)
	return testELF{text: []byte(name), sections: map[string][]byte{".modinfo": []byte(info)}}.bytes(t)
}
