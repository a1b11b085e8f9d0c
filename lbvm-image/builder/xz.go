package builder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Facts of the xz file format 1.1.0 (tukaani.org/xz/xz-file-format.txt).
const (
	xzStreamHeader = 12
	xzFilterX86    = 0x04
	xzFilterLZMA2  = 0x21
	maxDictCode    = 30 // a dictionary of 128 MiB; a kernel is built with 32 MiB
)

var xzMagic = []byte{0xfd, '7', 'z', 'X', 'Z', 0}

// unxz decompresses data to at most limit bytes. Kernels are compressed with the x86 branch filter in front of LZMA2,
// which the xz library refuses; so the first block's header is read here, the library undoes LZMA2, and the filter is
// undone here. Everything else goes to the library.
func unxz(data []byte, limit int64) ([]byte, error) {
	dict, start, filtered, err := xzBlock(data)
	if err != nil {
		return nil, err
	}
	if !filtered {
		r, err := xz.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("read xz stream: %w", err)
		}
		return readBounded(r, limit)
	}
	r, err := lzma.Reader2Config{DictCap: dict}.NewReader2(bytes.NewReader(data[start:]))
	if err != nil {
		return nil, fmt.Errorf("read LZMA2 block: %w", err)
	}
	out, err := readBounded(r, limit)
	if err != nil {
		return nil, err
	}
	unfilterX86(out)
	return out, nil
}

// xzBlock reads the header of the first block: the size of its dictionary in bytes, where its data starts, and
// whether the x86 filter stands before LZMA2.
func xzBlock(data []byte) (dict, start int, filtered bool, err error) {
	if len(data) < xzStreamHeader+4 || !bytes.HasPrefix(data, xzMagic) {
		return 0, 0, false, errors.New("not an xz stream")
	}
	header := data[xzStreamHeader:]
	size := (int(header[0]) + 1) * 4
	if header[0] == 0 || size > len(header) {
		return 0, 0, false, errors.New("xz stream without a whole block header")
	}
	flags, fields := header[1], header[2:size-4]
	for _, present := range []byte{0x40, 0x80} { // compressed and uncompressed size
		if flags&present != 0 {
			if _, fields, err = xzNumber(fields); err != nil {
				return 0, 0, false, err
			}
		}
	}
	for range int(flags&3) + 1 {
		var f xzFilter
		if f, fields, err = readFilter(fields); err != nil {
			return 0, 0, false, err
		}
		switch {
		case f.id == xzFilterX86 && len(f.properties) == 0:
			filtered = true
		case f.id == xzFilterLZMA2 && len(f.properties) == 1 && f.properties[0] <= maxDictCode:
			dict = int(2|f.properties[0]&1) << (f.properties[0]/2 + 11)
		default:
			return 0, 0, false, fmt.Errorf("xz filter %#x is not supported", f.id)
		}
	}
	return dict, xzStreamHeader + size, filtered, nil
}

type xzFilter struct {
	id         uint64
	properties []byte
}

// readFilter reads one filter's flags and returns what follows them.
func readFilter(fields []byte) (f xzFilter, rest []byte, err error) {
	if f.id, fields, err = xzNumber(fields); err != nil {
		return f, nil, err
	}
	length, fields, err := xzNumber(fields)
	if err != nil {
		return f, nil, err
	}
	if length > uint64(len(fields)) {
		return f, nil, errors.New("xz filter properties are cut off")
	}
	f.properties = fields[:length]
	return f, fields[length:], nil
}

func xzNumber(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errors.New("xz block header is malformed")
	}
	return v, b[n:], nil
}

// unfilterX86 turns the absolute targets of call and jmp instructions back into relative ones, in place.
//
// The encoder took the four bytes after E8 or E9 for a target when the top one is 00 or FF, unless an opcode among the
// three bytes before made that doubtful. The decoder has to doubt in the same places: recent has a bit for each of
// those three bytes, the nearest lowest.
func unfilterX86(b []byte) {
	recent, last := uint32(0), 0
	for i := 0; i+4 < len(b); i++ {
		if b[i]&0xfe != 0xe8 {
			continue
		}
		if distance := i - last; distance > 3 {
			recent = 0
		} else if distance > 0 {
			recent = recent << (distance - 1) & 7
		}
		last = i
		if doubtful(recent, b, i) || !signByte(b[i+4]) {
			recent = recent<<1 | 1
			continue
		}
		target := relative(binary.LittleEndian.Uint32(b[i+1:]), uint32(i)+5, recent)
		binary.LittleEndian.PutUint32(b[i+1:], target)
		i += 4
	}
}

// relative undoes one target; next is the address of the instruction after it.
func relative(target, next, recent uint32) uint32 {
	target -= next
	if recent != 0 {
		for shift := 8 * decidingByte[recent]; signByte(byte(target >> (24 - shift))); {
			target = (target ^ (1<<(32-shift) - 1)) - next
		}
	}
	target &= 0x01ffffff
	return target | -(target & 0x01000000) // sign extension from 25 bits
}

// decidingByte tells, by recent, how far below the top of a target lies the byte that the encoder looked at.
var decidingByte = [8]uint32{0, 1, 2, 2, 3, 3, 3, 3}

func doubtful(recent uint32, b []byte, i int) bool {
	switch recent {
	case 0:
		return false
	case 1, 2, 4: // a single earlier opcode is harmless unless its own target could end here
		return signByte(b[i+4-int(decidingByte[recent])])
	default:
		return true
	}
}

func signByte(b byte) bool { return b == 0 || b == 0xff }

// readBounded reads all of r, refusing more than limit bytes.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if n > limit {
		return nil, fmt.Errorf("decompressed data exceeds %d bytes", limit)
	}
	return out.Bytes(), nil
}
