package doctor

import (
	"fmt"
	"strings"

	"github.com/cloudtwin/cloudtwin/node"
)

// What the main job needs, and what it is comfortable with: a cloud of about 150 MB and three guests, images, and the
// templates of forks.
const (
	leastMemoryMB     = 400
	leastColdMemoryMB = 900 // cold guests share nothing
	goodMemoryMB      = 1500
	leastStateMB      = 256
	goodStateMB       = 1024
	leastCacheMB      = 512
	goodCacheMB       = 2048
	leastMediaMB      = 16
	leastOpenFiles    = 512
	goodOpenFiles     = 4096
)

func checkMemory(f Facts) verdict {
	const advice = "end other programs, or take a bigger machine"
	least := uint64(leastMemoryMB)
	if f.Guests == node.GuestsCold {
		least = leastColdMemoryMB
	}
	found := fmt.Sprintf("%d MB available of %d, %d cores", f.MemoryAvailableMB, f.MemoryMB, f.Cores)
	switch {
	case f.MemoryMB == 0:
		return warn("mount /proc", "not known: /proc/meminfo cannot be read")
	case f.MemoryAvailableMB < least:
		return fail(advice, "%s; %d are needed", found, least)
	case f.MemoryAvailableMB < goodMemoryMB:
		return warn(advice, "%s", found)
	}
	return ok("%s", found)
}

func checkStateDisk(f Facts) verdict { return checkDisk(f.State, leastStateMB, goodStateMB) }

func checkCacheDisk(f Facts) verdict { return checkDisk(f.Cache, leastCacheMB, goodCacheMB) }

func checkDisk(d Folder, least, good uint64) verdict {
	const advice = "free some disk space in "
	switch {
	case d.Err != nil:
		return fail("choose a folder that this user may write to", "%s: %v", d.Path, d.Err)
	case d.FreeMB < least:
		return fail(advice+d.Path, "%d MB free in %s, %d are needed", d.FreeMB, d.Path, least)
	case d.FreeMB < good:
		return warn(advice+d.Path, "%d MB free in %s", d.FreeMB, d.Path)
	}
	return ok("%d MB free in %s", d.FreeMB, d.Path)
}

// checkMedia looks at the place of the floppies: they hold keys, so they must not reach a disk.
func checkMedia(f Facts) verdict {
	const mount = "mount a tmpfs at /dev/shm, or set XDG_RUNTIME_DIR to a folder on one"
	switch d := f.Media; {
	case d.Err != nil:
		return fail(mount, "%s: %v", d.Path, d.Err)
	case f.MediaInMemory != nil:
		return fail(mount, "%v", f.MediaInMemory)
	case d.FreeMB < leastMediaMB:
		return fail("give it more room: mount -o remount,size=1g "+d.Path, "%d MB free in %s", d.FreeMB, d.Path)
	default:
		return ok("%s is in memory, %d MB free", d.Path, d.FreeMB)
	}
}

func checkSockets(f Facts) verdict {
	var long []string
	longest := 0
	for _, s := range f.Sockets {
		longest = max(longest, len(s.Path))
		if len(s.Path) > s.Most {
			long = append(long, s.What+" "+s.Path)
		}
	}
	if len(long) > 0 {
		return fail("use a shorter folder with --state, such as one below /tmp", "too long for a unix socket: %s",
			strings.Join(long, ", "))
	}
	return ok("the longest has %d bytes", longest)
}

func checkOpenFiles(f Facts) verdict {
	const advice = "ulimit -n 65536"
	switch {
	case f.OpenFiles < leastOpenFiles:
		return fail(advice, "at most %d, %d are needed", f.OpenFiles, leastOpenFiles)
	case f.OpenFiles < goodOpenFiles:
		return warn(advice, "at most %d: too few for many guests", f.OpenFiles)
	}
	return ok("at most %d", f.OpenFiles)
}

func checkLoopback(f Facts) verdict {
	if f.Loopback != nil {
		return fail("bring the interface lo up, with 127.0.0.1/8", "load balancers get addresses there: %v", f.Loopback)
	}
	return ok("127.0.0.0/8 is this machine's")
}

func checkLowPorts(f Facts) verdict {
	if !f.LowPorts {
		return warn("sysctl net.ipv4.ip_unprivileged_port_start=80",
			"ports below 1024 are closed to this user: port P of a load balancer is P + 8000")
	}
	return ok("this user may listen on them: load balancers have their own ports")
}
