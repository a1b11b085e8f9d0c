package accel

import "encoding/binary"

// romSize is the least that QEMU takes as firmware for its pc machine; the ROM's end lies at 4 GiB, where the
// processor begins, and again below 1 MiB.
const romSize = 64 << 10

// proofLoops is how often the guest adds and stores. A processor that works does it in 10 to 50 ms, and so does TCG;
// nested paravirtual KVM, which emulates each step, needs a minute.
const proofLoops = 20_000_000

// Exit codes of QEMU: isa-debug-exit turns the byte b that the guest writes into 2b+1.
const (
	exitProved   = 0x2a<<1 | 1
	exitBadMaths = 0x2b<<1 | 1
)

// debugExitPort is where the guest writes its result; it must be the iobase of the isa-debug-exit device.
const debugExitPort = 0xf4

// proofROM returns a firmware image that goes from reset through protected mode and page tables into 64-bit mode,
// as a kernel does, adds up the numbers from loops to 1 in memory, and reports on debugExitPort whether the
// sum is right. Each line is one instruction; the addresses in it are those below 1 MiB.
func proofROM(loops uint32) []byte {
	const base = 0xff000 // where code begins: the last 4 KiB
	var loopBytes [4]byte
	var sumBytes [8]byte
	binary.LittleEndian.PutUint32(loopBytes[:], loops)
	binary.LittleEndian.PutUint64(sumBytes[:], uint64(loops)*(uint64(loops)+1)/2)

	code := make([]byte, 0, 256)
	emit := func(b ...byte) { code = append(code, b...) }
	// 16-bit real mode
	emit(0xfa)                                           // cli
	emit(0x2e, 0x66, 0x0f, 0x01, 0x16, 0xc8, 0xf0)       // lgdtl %cs:0xf0c8
	emit(0x0f, 0x20, 0xc0)                               // mov %cr0,%eax
	emit(0x0c, 0x01)                                     // or $1,%al: protection on
	emit(0x0f, 0x22, 0xc0)                               // mov %eax,%cr0
	emit(0x66, 0xea, 0x18, 0xf0, 0x0f, 0x00, 0x08, 0x00) // ljmpl $8,$0xff018
	// 32-bit protected mode
	emit(0x66, 0xb8, 0x10, 0x00)                                     // mov $0x10,%ax
	emit(0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0)                         // mov %ax,%ds; %es; %ss
	emit(0xc7, 0x05, 0x00, 0x10, 0x00, 0x00, 0x03, 0x20, 0x00, 0x00) // movl $0x2003,0x1000: page map
	emit(0xc7, 0x05, 0x00, 0x20, 0x00, 0x00, 0x03, 0x30, 0x00, 0x00) // movl $0x3003,0x2000: its directory
	emit(0xc7, 0x05, 0x00, 0x30, 0x00, 0x00, 0x83, 0x00, 0x00, 0x00) // movl $0x83,0x3000: one page of 2 MiB
	emit(0xb8, 0x00, 0x10, 0x00, 0x00)                               // mov $0x1000,%eax
	emit(0x0f, 0x22, 0xd8)                                           // mov %eax,%cr3
	emit(0x0f, 0x20, 0xe0)                                           // mov %cr4,%eax
	emit(0x0c, 0x20)                                                 // or $0x20,%al: PAE
	emit(0x0f, 0x22, 0xe0)                                           // mov %eax,%cr4
	emit(0xb9, 0x80, 0x00, 0x00, 0xc0)                               // mov $0xc0000080,%ecx: EFER
	emit(0x0f, 0x32)                                                 // rdmsr
	emit(0x80, 0xcc, 0x01)                                           // or $1,%ah: long mode
	emit(0x0f, 0x30)                                                 // wrmsr
	emit(0x0f, 0x20, 0xc0)                                           // mov %cr0,%eax
	emit(0x0d, 0x00, 0x00, 0x00, 0x80)                               // or $0x80000000,%eax: paging
	emit(0x0f, 0x22, 0xc0)                                           // mov %eax,%cr0
	emit(0xea, 0x6e, 0xf0, 0x0f, 0x00, 0x18, 0x00)                   // ljmp $0x18,$0xff06e
	// 64-bit mode
	emit(append([]byte{0xb9}, loopBytes[:]...)...)             // mov $loops,%ecx
	emit(0x31, 0xc0)                                           // xor %eax,%eax
	emit(0x48, 0x01, 0xc8)                                     // add %rcx,%rax
	emit(0x48, 0x89, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00)       // mov %rax,0x5000
	emit(0xff, 0xc9)                                           // dec %ecx
	emit(0x75, 0xf1)                                           // jnz to the add
	emit(append([]byte{0x48, 0xba}, sumBytes[:]...)...)        // movabs $sum,%rdx
	emit(0xb1, exitBadMaths>>1)                                // mov $0x2b,%cl
	emit(0x48, 0x39, 0x14, 0x25, 0x00, 0x50, 0x00, 0x00)       // cmp %rdx,0x5000
	emit(0x75, 0x02)                                           // jne over the next
	emit(0xff, 0xc9)                                           // dec %ecx: 0x2a
	emit(0x88, 0xc8)                                           // mov %cl,%al
	emit(0xe6, debugExitPort, 0xf4, 0xeb, 0xfd)                // out %al,$0xf4; hlt; jump back to hlt
	emit(make([]byte, 0xa8-len(code))...)                      // the descriptors lie at 0xff0a8
	emit(0, 0, 0, 0, 0, 0, 0, 0)                               // null
	emit(0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00)       // 0x08: 32-bit code, all 4 GiB
	emit(0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00)       // 0x10: data, all 4 GiB
	emit(0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xaf, 0x00)       // 0x18: 64-bit code
	emit(0x1f, 0x00, 0xa8, byte(base>>8&0xff), base>>16, 0x00) // limit and base of the descriptors, at 0xff0c8

	rom := make([]byte, romSize)
	copy(rom[romSize-0x1000:], code)
	copy(rom[romSize-0x10:], []byte{0xe9, 0x0d, 0xf0}) // the reset vector: jmp 0xf000
	return rom
}
