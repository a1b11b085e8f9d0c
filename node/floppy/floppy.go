// Package floppy writes and reads FAT12 images of 1.44 MB floppy disks: the medium on which a guest gets its identity.
//
// Write is deterministic: equal files give equal bytes. Read takes any sound FAT12 floppy, also one that other
// programs made, and refuses a damaged one as a whole: an identity is used completely or not at all.
//
// Not in here: what the files mean (package keydelivery), where an image lies and when it is wiped (package
// controller). The format is Microsoft's "FAT: General Overview of On-Disk Format", version 1.03, and for long
// names its appendix.
package floppy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Errors that callers test for with errors.Is.
var (
	// ErrFull means that files or their names do not fit on a floppy.
	ErrFull = errors.New("does not fit on the floppy")
	// ErrName means that a file's name cannot be written.
	ErrName = errors.New("name is not allowed")
	// ErrDamaged means that an image is no sound FAT12 floppy: truncated, looped, or contradicting itself.
	ErrDamaged = errors.New("floppy image is damaged")
)

// Size is how long an image is, in bytes.
const Size = totalSectors * sectorSize

// The layout of a 1.44 MB floppy as every formatting program makes it. One sector is one cluster.
const (
	sectorSize      = 512
	totalSectors    = 2880
	reservedSectors = 1
	fatCount        = 2
	fatSectors      = 9
	rootEntries     = 224
	entrySize       = 32
	mediaByte       = 0xf0
	sectorsPerTrack = 18
	heads           = 2

	fatStart    = reservedSectors * sectorSize
	rootStart   = fatStart + fatCount*fatSectors*sectorSize
	dataStart   = rootStart + rootEntries*entrySize
	maxClusters = totalSectors - dataStart/sectorSize
)

// FAT12 values of a cluster's entry.
const (
	firstCluster = 2 // the first two entries hold the media byte and an end mark
	badCluster   = 0xff7
	endOfChain   = 0xff8 // this and above
	// fat12Clusters is one more than a FAT12 volume can have; with more it is FAT16.
	fat12Clusters = 4085
)

const volumeLabel = "CLOUDTWIN  "

// volumeSerial and fileTime are the same for all images, so that nothing but the files decides about the bytes.
const volumeSerial = 0x43545749

var fileTime = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// bootSector makes the first sector: the volume's layout, and no boot code.
func bootSector() []byte {
	b := make([]byte, sectorSize)
	copy(b, "\xeb\x3c\x90CLOUDTWN") // a jump over the layout, and who formatted it
	le := binary.LittleEndian
	le.PutUint16(b[11:], sectorSize)
	b[13] = 1 // sectors per cluster
	le.PutUint16(b[14:], reservedSectors)
	b[16] = fatCount
	le.PutUint16(b[17:], rootEntries)
	le.PutUint16(b[19:], totalSectors)
	b[21] = mediaByte
	le.PutUint16(b[22:], fatSectors)
	le.PutUint16(b[24:], sectorsPerTrack)
	le.PutUint16(b[26:], heads)
	b[38] = 0x29 // the next three fields are there
	le.PutUint32(b[39:], volumeSerial)
	copy(b[43:], volumeLabel)
	copy(b[54:], "FAT12   ")
	// What a PC does that tries to boot from it: INT 18h, "no bootable medium", then nothing for ever.
	copy(b[62:], []byte{0xcd, 0x18, 0xf4, 0xeb, 0xfd})
	le.PutUint16(b[510:], 0xaa55)
	return b
}

// geometry is where things lie on a volume, from its boot sector.
type geometry struct {
	clusterSize int
	fatStart    int64 // offsets in bytes
	fatSize     int
	fats        int
	rootStart   int64
	rootSize    int
	dataStart   int64
	clusters    int // number of data clusters
	size        int64
}

// parseBoot reads the layout and refuses what cannot be a FAT12 floppy. A volume is at most 2.88 MB, the largest
// floppy there was, which bounds all that Read may need.
func parseBoot(b []byte) (geometry, error) {
	le := binary.LittleEndian
	perCluster, reserved := int(b[13]), int(le.Uint16(b[14:]))
	fats, entries := int(b[16]), int(le.Uint16(b[17:]))
	total, fat := int(le.Uint16(b[19:])), int(le.Uint16(b[22:]))
	switch {
	case le.Uint16(b[510:]) != 0xaa55:
		return geometry{}, damaged("boot sector: no signature")
	case le.Uint16(b[11:]) != sectorSize:
		return geometry{}, damaged("boot sector: %d bytes a sector, not %d", le.Uint16(b[11:]), sectorSize)
	case perCluster == 0 || perCluster&(perCluster-1) != 0:
		return geometry{}, damaged("boot sector: %d sectors a cluster", perCluster)
	case reserved == 0:
		return geometry{}, damaged("boot sector: no reserved sector")
	case fats != 1 && fats != 2:
		return geometry{}, damaged("boot sector: %d allocation tables", fats)
	case entries == 0 || entries*entrySize%sectorSize != 0:
		return geometry{}, damaged("boot sector: %d root entries", entries)
	case total == 0 || total > 2*totalSectors:
		return geometry{}, damaged("boot sector: %d sectors", total)
	}
	data := reserved + fats*fat + entries*entrySize/sectorSize
	if data >= total {
		return geometry{}, damaged("boot sector: no room for data")
	}
	g := geometry{
		clusterSize: perCluster * sectorSize,
		fatStart:    int64(reserved) * sectorSize,
		fatSize:     fat * sectorSize,
		fats:        fats,
		rootStart:   int64(reserved+fats*fat) * sectorSize,
		rootSize:    entries * entrySize,
		dataStart:   int64(data) * sectorSize,
		clusters:    (total - data) / perCluster,
		size:        int64(total) * sectorSize,
	}
	return g, g.check()
}

// check holds the number of clusters against what FAT12 and the allocation table can tell.
func (g geometry) check() error {
	if g.clusters == 0 || g.clusters >= fat12Clusters {
		return damaged("boot sector: %d clusters, no FAT12", g.clusters)
	}
	if need := ((firstCluster+g.clusters)*3 + 1) / 2; g.fatSize < need {
		return damaged("boot sector: allocation table of %d bytes, %d needed", g.fatSize, need)
	}
	return nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// fatEntry reads a cluster's entry, twelve bits, of a FAT that is long enough.
func fatEntry(fat []byte, cluster int) int {
	v := int(binary.LittleEndian.Uint16(fat[cluster*3/2:]))
	if cluster%2 == 1 {
		return v >> 4
	}
	return v & 0xfff
}

func setFATEntry(fat []byte, cluster, v int) {
	at := fat[cluster*3/2:]
	if cluster%2 == 1 {
		at[0] = at[0]&0x0f | byte(v<<4)
		at[1] = byte(v >> 4)
	} else {
		at[0] = byte(v)
		at[1] = at[1]&0xf0 | byte(v>>8)
	}
}

// dosTime and dosDate are the directory's way to tell a time, to two seconds.
func dosTime(t time.Time) (date, clock uint16) {
	date = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	clock = uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	return date, clock
}

func goTime(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&0xf), int(date&0x1f),
		int(clock>>11), int(clock>>5&0x3f), int(clock&0x1f)*2, 0, time.UTC)
}
