//go:build !amd64

package accel

const hasTSC = false

func rdtsc() uint64 { return 0 }
