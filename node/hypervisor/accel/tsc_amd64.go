package accel

const hasTSC = true

// rdtsc reads the processor's time stamp counter.
func rdtsc() uint64
