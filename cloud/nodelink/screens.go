package nodelink

// Why a node has no picture of a guest's display (ScreenAnswer).
const (
	ScreenNoDisplay  = "no-display"
	ScreenNotRunning = "not-running"
	ScreenFailed     = "failed"
)

// MaxPicture bounds a picture, in bytes: with its envelope it fits into one message of gRPC's.
const MaxPicture = 3 << 20
