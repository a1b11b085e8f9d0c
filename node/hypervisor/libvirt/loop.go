package libvirt

import (
	"fmt"
	"os"
	"sync"

	"libvirt.org/go/libvirt"
)

// eventLoop is libvirt's one event loop of this process. libvirt wants its implementation registered before the first
// connection is opened, and run from then on by somebody; that is process-wide state of the C library, mirrored
// here. The loop runs while at least one driver is open.
type eventLoop struct {
	mu         sync.Mutex
	registered bool
	users      int
	stop       chan struct{} // closed to end the goroutine
	ended      chan struct{} // closed when it has ended
}

var loop eventLoop

// acquire registers libvirt's loop the first time, writing libvirt's own log to logFile, and starts it for the first
// user. Its first call is also the first into libvirt: an error means that libvirt is not on this host.
func (l *eventLoop) acquire(logFile string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.registered {
		restore := redirectLog(logFile)
		err := libvirt.EventRegisterDefaultImpl()
		restore()
		if err != nil {
			return fmt.Errorf("load libvirt: %w", err)
		}
		l.registered = true
	}
	l.users++
	if l.users == 1 {
		l.stop, l.ended = make(chan struct{}), make(chan struct{})
		go run(l.stop, l.ended)
	}
	return nil
}

// release stops the loop when its last user goes, and returns when it has stopped.
func (l *eventLoop) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	if l.users > 0 {
		return
	}
	close(l.stop)
	// The loop sleeps in poll until something happens; a timer that is due at once wakes it.
	timer, err := libvirt.EventAddTimeout(0, func(int) {})
	if err != nil {
		return
	}
	<-l.ended
	_ = libvirt.EventRemoveTimeout(timer) // nobody runs the loop; what is left is harmless
}

func run(stop, ended chan struct{}) {
	defer close(ended)
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := libvirt.EventRunDefaultImpl(); err != nil {
			return // only a programming error inside libvirt: it has no handles and timers to wait for
		}
	}
}

// redirectLog makes libvirt write its warnings to a file instead of the terminal. libvirt takes this from the
// environment only, once, when it initialises; the returned function puts the environment back.
func redirectLog(logFile string) (restore func()) {
	const name = "LIBVIRT_LOG_OUTPUTS"
	if _, set := os.LookupEnv(name); set || logFile == "" {
		return func() {}
	}
	const warnings = "3"
	if err := os.Setenv(name, warnings+":file:"+logFile); err != nil {
		return func() {}
	}
	return func() { _ = os.Unsetenv(name) }
}
