package vnet

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

const copyBuffer = 32 << 10

var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBuffer)
	return &b
}}

// splice moves bytes between a guest and the host until both directions have ended, one has failed, or ctx ends. The
// end of one direction is passed on and leaves the other open; a failure is passed on as a reset.
func splice(ctx context.Context, guest *guestConn, host net.Conn) {
	abort := func() {
		guest.abort()
		reset(host)
	}
	defer context.AfterFunc(ctx, abort)()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if move(guest, host) != nil {
			abort()
		}
	}()
	if move(host, guest) != nil {
		abort()
	}
	<-done
	_ = guest.Close()
	_ = host.Close()
}

// loan is a copy buffer that is held only while there is something in it: most connections wait most of the time.
type loan struct{ buffer *[]byte }

func (l *loan) take() []byte {
	if l.buffer == nil {
		l.buffer, _ = copyBuffers.Get().(*[]byte)
	}
	return *l.buffer
}

func (l *loan) giveBack() {
	if l.buffer != nil {
		copyBuffers.Put(l.buffer)
		l.buffer = nil
	}
}

// patientReader reads like an io.Reader, into a buffer that it takes when there is something to read.
type patientReader interface {
	readInto(l *loan) ([]byte, error)
}

// move copies one direction and passes on its end.
func move(to, from net.Conn) error {
	var l loan
	defer l.giveBack()
	for r := patient(from); ; l.giveBack() {
		b, err := r.readInto(&l)
		if len(b) > 0 {
			if _, err := to.Write(b); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				return half.CloseWrite()
			}
			return to.Close()
		case err != nil:
			return err
		}
	}
}

func patient(c net.Conn) patientReader {
	switch c := c.(type) {
	case patientReader:
		return c
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			return kernelReader{raw}
		}
	}
	return plainReader{c}
}

// plainReader is for connections that cannot tell whether there is something to read.
type plainReader struct{ net.Conn }

func (r plainReader) readInto(l *loan) ([]byte, error) {
	b := l.take()
	n, err := r.Read(b)
	return b[:n], err
}

// kernelReader reads a connection of the kernel's.
type kernelReader struct{ syscall.RawConn }

func (r kernelReader) readInto(l *loan) (b []byte, err error) {
	waitErr := r.Read(func(fd uintptr) (done bool) {
		n := 0
		for b, err = l.take(), syscall.EINTR; errors.Is(err, syscall.EINTR); {
			n, err = syscall.Read(int(fd), b)
		}
		b = b[:max(n, 0)]
		switch {
		case errors.Is(err, syscall.EAGAIN):
			l.giveBack()
			return false
		case err == nil && n == 0:
			err = io.EOF
		}
		return true
	})
	return b, errors.Join(waitErr, err)
}

// reset closes a host connection so that its client sees a failure and not an orderly end.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
