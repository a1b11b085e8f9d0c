package libvirt

import (
	"log/slog"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// fileWatch tells readers of console logs that a file has grown. All share one inotify instance, of which a user has
// 128 by default; without any, readers look at the file by their timers alone.
type fileWatch struct {
	mu      sync.Mutex
	notify  *fsnotify.Watcher // nil when the host has no inotify to give
	readers map[string]map[chan struct{}]struct{}
	ended   chan struct{}
}

func newFileWatch(log *slog.Logger) *fileWatch {
	w := &fileWatch{readers: map[string]map[chan struct{}]struct{}{}, ended: make(chan struct{})}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("console logs are polled", "error", err)
		close(w.ended)
		return w
	}
	w.notify = notify
	go w.run(notify)
	return w
}

func (w *fileWatch) run(notify *fsnotify.Watcher) {
	defer close(w.ended)
	events, errs := notify.Events, notify.Errors
	for events != nil {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			w.wake(e.Name)
		case _, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			w.wakeAll() // the kernel dropped events: everybody looks
		}
	}
}

// add returns a channel that gets a token whenever the file may have grown.
func (w *fileWatch) add(path string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan struct{}, 1)
	if w.readers[path] == nil {
		w.readers[path] = map[chan struct{}]struct{}{}
		if w.notify != nil {
			_ = w.notify.Add(path) // the reader's timer covers a file that cannot be watched
		}
	}
	w.readers[path][ch] = struct{}{}
	return ch
}

func (w *fileWatch) remove(path string, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.readers[path], ch)
	if len(w.readers[path]) > 0 {
		return
	}
	delete(w.readers, path)
	if w.notify != nil {
		_ = w.notify.Remove(path) // it fails when the file is gone, and then there is nothing to remove
	}
}

func (w *fileWatch) wake(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.readers[path] {
		nudge(ch)
	}
}

func (w *fileWatch) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, readers := range w.readers {
		for ch := range readers {
			nudge(ch)
		}
	}
}

func (w *fileWatch) close() {
	w.mu.Lock()
	notify := w.notify
	w.notify = nil
	w.mu.Unlock()
	if notify != nil {
		_ = notify.Close()
	}
	<-w.ended
}

func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
