package nodelink

// StageFramesDropped is the milestone by which a node tells that frames of a guest were dropped as none that a guest
// may send. Its attributes are the reasons that package vnet documents, each with the number since the guest was
// plugged in.
const StageFramesDropped = "frames-dropped"
