package floppy

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Write writes a whole image with files in its root directory: names to contents. Names are at most 255 UTF-16
// units long and differ in more than case. The same files give the same bytes. ErrFull, ErrName, or w's error;
// nothing is written then but what w itself took.
func Write(w io.Writer, files map[string][]byte) error {
	img, err := layOut(files, Size)
	defer clear(img) // a key lies in it
	if err != nil {
		return fmt.Errorf("write floppy: %w", err)
	}
	if _, err := w.Write(img); err != nil {
		return fmt.Errorf("write floppy: %w", err)
	}
	return nil
}

// WriteFile is Write into an empty file. What is zero behind the last content is left a hole, so an image costs what is
// in it.
func WriteFile(f *os.File, files map[string][]byte) error {
	used := dataStart
	for _, content := range files {
		used += (len(content) + sectorSize - 1) / sectorSize * sectorSize
	}
	img, err := layOut(files, min(used, Size))
	defer clear(img) // a key lies in it
	if err == nil {
		_, err = f.Write(img)
	}
	if err == nil {
		err = f.Truncate(Size)
	}
	if err != nil {
		return fmt.Errorf("write floppy: %w", err)
	}
	return nil
}

// layOut makes the first size bytes of an image, which must hold all of the content.
func layOut(files map[string][]byte, size int) ([]byte, error) {
	img := make([]byte, size)
	return img, fill(img, files)
}

// fill lays the files out in an image of zeros.
func fill(img []byte, files map[string][]byte) error {
	names := slices.Sorted(maps.Keys(files))
	aliases, err := aliasNames(names)
	if err != nil {
		return err
	}
	copy(img, bootSector())
	fat := img[fatStart : fatStart+fatSectors*sectorSize]
	setFATEntry(fat, 0, 0xf00|mediaByte)
	setFATEntry(fat, 1, 0xfff)

	dir := make([]byte, 0, rootEntries*entrySize)
	dir = append(dir, labelEntry()...)
	next := firstCluster
	for _, name := range names {
		content := files[name]
		count := (len(content) + sectorSize - 1) / sectorSize
		if next+count > firstCluster+maxClusters {
			return fmt.Errorf("%s, %d bytes: %w", name, len(content), ErrFull)
		}
		if _, short := isShort(name); !short {
			dir = append(dir, longEntries(name, aliases[name])...)
		}
		first := 0
		if count > 0 {
			first = next
		}
		dir = append(dir, fileEntry(aliases[name], first, len(content))...)
		copy(img[dataStart+(next-firstCluster)*sectorSize:], content)
		for i := range count {
			link := next + i + 1
			if i == count-1 {
				link = 0xfff
			}
			setFATEntry(fat, next+i, link)
		}
		next += count
	}
	if len(dir) > rootEntries*entrySize {
		return fmt.Errorf("%d directory entries, at most %d: %w", len(dir)/entrySize, rootEntries, ErrFull)
	}
	copy(img[rootStart:], dir)
	copy(img[fatStart+fatSectors*sectorSize:], fat)
	return nil
}

// aliasNames gives each name its short one. Names that are short themselves come first, so that none is taken away.
func aliasNames(names []string) (map[string]shortName, error) {
	aliases := make(map[string]shortName, len(names))
	taken := make(map[shortName]bool, len(names))
	folded := make(map[string]string, len(names))
	for _, name := range names {
		if err := checkName(name); err != nil {
			return nil, err
		}
		fold := strings.ToUpper(name)
		if other, ok := folded[fold]; ok {
			return nil, fmt.Errorf("%q and %q: %w: they differ in case only", other, name, ErrName)
		}
		folded[fold] = name
		if s, ok := isShort(name); ok {
			aliases[name] = s
			taken[s] = true
		}
	}
	if len(names) > rootEntries {
		return nil, fmt.Errorf("%d files: %w", len(names), ErrFull)
	}
	for _, name := range names {
		if _, ok := aliases[name]; !ok {
			aliases[name] = aliasFor(name, taken)
		}
	}
	return aliases, nil
}

func labelEntry() []byte {
	e := make([]byte, entrySize)
	copy(e, volumeLabel)
	e[11] = attrVolume
	date, clock := dosTime(fileTime)
	binary.LittleEndian.PutUint16(e[22:], clock)
	binary.LittleEndian.PutUint16(e[24:], date)
	return e
}

func fileEntry(name shortName, cluster, size int) []byte {
	e := make([]byte, entrySize)
	copy(e, name[:])
	e[11] = attrArchive
	date, clock := dosTime(fileTime)
	le := binary.LittleEndian
	le.PutUint16(e[14:], clock) // created
	le.PutUint16(e[16:], date)
	le.PutUint16(e[18:], date)  // read
	le.PutUint16(e[22:], clock) // written
	le.PutUint16(e[24:], date)
	le.PutUint16(e[26:], uint16(cluster))
	le.PutUint32(e[28:], uint32(size))
	return e
}
