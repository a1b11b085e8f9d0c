// Package replay plays a recording again: what a bundle tells of the calls, faults and nodes of a cloud is done to a
// new cloud on this machine, and what then happens there is held against what happened in the recording.
//
// recording.go reads a bundle into steps. names.go gives the identifiers of two clouds one name, and lines.go makes of
// events what can be compared; compare.go finds where the two part. world.go starts the new cloud, live.go watches it,
// and player.go does the steps, with the requests that caller.go signs and substitute.go fills in. shrink.go looks for
// the smallest fault schedule that still has a failure happen.
package replay
