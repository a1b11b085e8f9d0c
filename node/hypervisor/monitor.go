package hypervisor

import (
	"context"
	"time"
)

// MonitorWatcher is the ability of drivers whose machines have a monitor of their own, such as QEMU's.
type MonitorWatcher interface {
	// MonitorEvents returns a channel of what the machines' monitors tell from now on, closed when ctx ends. A slow
	// reader misses some.
	MonitorEvents(ctx context.Context) (<-chan MonitorEvent, error)
}

// MonitorEvent is one thing that a machine's monitor told.
type MonitorEvent struct {
	ID   string    // the machine's
	Name string    // in the monitor's own words, for example DEVICE_TRAY_MOVED
	Data string    // what goes with it, as the monitor has it (JSON); may be empty
	At   time.Time // when the monitor told it
}
