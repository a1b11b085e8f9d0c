package controller

import (
	"path/filepath"
)

// HeaderCapturer is a Network that keeps the headers of guests' frames.
type HeaderCapturer interface {
	CaptureHeaders(instanceID, path string) (stop func() error, err error)
}

// framesFile is where the headers of a guest's latest frames are, in its folder (Config.Capture).
const framesFile = "frames.pcap"

// capture begins to keep the headers of the guest's frames, if that is wanted. A guest does without when it fails.
func (g *guest) capture() {
	network, able := g.c.cfg.Network.(HeaderCapturer)
	if !g.c.cfg.Capture || !able || g.captured != nil {
		return
	}
	stop, err := network.CaptureHeaders(g.id, filepath.Join(g.c.files.folder(g.id), framesFile))
	if err != nil {
		g.log.Warn("capture frames", "error", err)
		return
	}
	g.captured = stop
}

// detach takes the guest off the network.
func (g *guest) detach() {
	if g.captured != nil {
		if err := g.captured(); err != nil {
			g.log.Warn("capture frames", "error", err)
		}
		g.captured = nil
	}
	g.c.cfg.Network.Detach(g.id)
}
